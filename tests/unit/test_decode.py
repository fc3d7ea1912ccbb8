"""Encodings: marks, wide and shifted encodings without marks, labels of the Web, legacy pages, and bytes that are no characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.parse.decode import decode_bytes, detect, read_text
from pipeline.types import LossKind
from tests.reading import read_bytes

#: A sentence or two of each language, and the encodings in which old files of it are found.
SENTENCES = {
    "Der Schlüssel für die große Tür hängt über der Küchentheke, wenn der Pförtner nicht da ist.": ("cp1252", "cp850", "mac_roman"),
    "Où sont rangés les papiers de l’été dernier ? Le gardien a déjà fermé la grille à cause de la fête.": ("cp1252", "mac_roman"),
    "El niño comió una manzana y después salió corriendo hacia la estación más próxima de la ciudad.": ("cp1252",),
    "A reunião começou às nove horas e não há mais lugares disponíveis no auditório da direção.": ("cp1252",),
    "Perché la città è così silenziosa? Il caffè è già chiuso e nessuno può più entrare.": ("cp1252",),
    "Bådene ligger ved kajen, og færgen sejler først igen på lørdag, når vejret bliver bedre.": ("cp1252",),
    "Båten går från kajen klockan åtta på morgonen och återvänder först när mörkret fallit.": ("cp1252",),
    "Tämä sääntö koskee myös niitä, jotka työskentelevät öisin satamassa ja käyttävät nostureita.": ("cp1252",),
    "Proszę zamknąć drzwi i zgasić światło, gdy wszyscy goście już wyjdą z budynku. Źródło jest pewne.": ("cp1250", "iso8859_2"),
    "Příliš žluťoučký kůň úpěl ďábelské ódy, a proto zůstala brána až do večera zavřená.": ("cp1250", "iso8859_2", "cp852"),
    "Az őrség hűvös reggeleken is időben érkezik, és a kulcsokat a fiókban találják meg.": ("cp1250", "iso8859_2"),
    "Ključ za skladište čuva noćni čuvar, a rezervni se nalazi u ladici pokraj vrata na žici.": ("cp1250",),
    "Ключ от склада хранится у сторожа, а запасной лежит в ящике стола рядом с входной дверью.": (
        "cp1251",
        "koi8_r",
        "cp866",
        "iso8859_5",
    ),
    "Ключ від складу зберігається у сторожа, його заступник приїде лише наступного тижня.": ("cp1251", "koi8_u"),
    "Ключът от склада се пази от нощния пазач, а резервният е в чекмеджето до вратата.": ("cp1251",),
    "Το κλειδί της αποθήκης το κρατά ο φύλακας και το δεύτερο βρίσκεται στο συρτάρι.": ("cp1253", "iso8859_7"),
    "Yangın söndürücüler şubat ayında değiştirildi, eksik kişi sayısı ise henüz bilinmiyor; ığdır.": ("cp1254",),
    "המפתח של המחסן נמצא אצל השומר והמפתח השני מונח במגירה ליד הדלת הראשית.": ("cp1255",),
    "مفتاح المستودع عند الحارس والمفتاح الثاني في الدرج بجانب الباب الرئيسي للمبنى.": ("cp1256",),
    "Sandėlio raktą saugo sargas, o atsarginis guli stalčiuje šalia pagrindinių durų žiemą.": ("cp1257",),
    "Noliktavas atslēga glabājas pie sarga, bet otrā ir atvilktnē blakus galvenajām durvīm.": ("cp1257",),
    "กุญแจโกดังอยู่ที่ยามรักษาการณ์และกุญแจสำรองอยู่ในลิ้นชักข้างประตูใหญ่": ("cp874",),
    "倉庫の鍵は守衛が保管しています。予備の鍵は正面の扉の横にある引き出しの中です。": ("cp932", "euc_jp", "iso2022_jp"),
    "仓库的钥匙由门卫保管，备用钥匙放在大门旁边的抽屉里，每月检查一次。": ("gb18030",),
    "倉庫的鑰匙由門衛保管，備用鑰匙放在大門旁邊的抽屜裡，每月檢查一次。": ("big5",),
    "창고 열쇠는 경비원이 보관하고 예비 열쇠는 정문 옆 서랍 안에 있습니다.": ("cp949", "iso2022_kr"),
}
LEGACY = [(text, encoding) for text, encodings in SENTENCES.items() for encoding in encodings]


@pytest.mark.parametrize(("text", "encoding"), LEGACY, ids=[f"{encoding}-{text[:12]}" for text, encoding in LEGACY])
def test_legacy_encodings_without_a_label(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert read_text(path) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [t for t in SENTENCES if t[0] in "DКΤה倉창ก"] + ["Report on the pump.\r\n"], ids=lambda t: t[:8])
def test_wide_encodings_without_a_mark(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((text + "\n").encode(encoding))
    assert read_text(path) == text.replace("\r\n", "\n") + "\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_marks(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Grüße".encode(encoding))
    assert read_text(path) == "Grüße"


@pytest.mark.parametrize(
    "text",
    [
        "Preis: 5 €",
        "naïve café",
        "±5 °C",
        "Årsmøte på Ås",
        "“Orchard” costs € 5",
        "São Paulo",
        "Größe: 5 µm",
        "Zürich",
        "Ærø",
        "façade — résumé",
        "§ 5 Abs. 2",
        "10 000 £",
        "señor",
    ],
)
def test_a_few_letters_beyond_ascii_are_western(text: str) -> None:
    assert decode_bytes(text.encode("cp1252")) == text


@pytest.mark.parametrize(
    ("label", "encoding", "text"),
    [
        ("iso-8859-1", "cp1252", "“Quotes” for € 5"),
        ("us-ascii", "cp1252", "café"),
        ("ISO-8859-9", "cp1254", "ığdır ş"),
        ("shift_jis", "cp932", "①鍵"),
        ("gb2312", "gb18030", "镕基"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("tis-620", "cp874", "กุญแจ"),
        ("big5", "big5hkscs", "門衛"),
        ("x-sjis", "cp932", "髙橋"),
        ("macintosh", "mac_roman", "naïve"),
        ("utf8", "utf-8", "naïve"),
        ("iso-8859-1", "utf-8", "mislabelled naïve"),
        ("utf-8", "cp1252", "Grüße aus Köln"),
        ("no-such-label", "cp1252", "Grüße aus Köln"),
        ("utf-16", "utf-8", "naïve words"),
        ("utf-16", "ascii", "plain words!"),
    ],
)
def test_labels_mean_what_they_mean_on_the_web(label: str, encoding: str, text: str) -> None:
    assert decode_bytes(text.encode(encoding), label) == text


def test_texts_in_two_encodings_that_were_joined(tmp_path: Path) -> None:
    utf8, old = "größer als das Übliche\n" * 5, "Müller zahlt 5 € für Öl\n"
    found = read_bytes(tmp_path, "a.txt", utf8.encode() + old.encode("cp1252"))
    assert found.texts == [(utf8 + old).strip()]
    assert not found.losses


def test_what_is_no_character_is_a_loss(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "a.txt", "größer als das Übliche ".encode() * 5 + b"cut \xe2\x82 and \xff\xfe end")
    assert found.text.count("\ufffd") == 3
    assert found.lost == {LossKind.UNDECODABLE_BYTES: 3}


def test_colours_of_terminals_are_no_shifted_encoding(tmp_path: Path) -> None:
    found = read_bytes(
        tmp_path,
        "ci.log",
        "\x1b[31mPool\x1b[39m: \x1b[1mno slot\x1b[0m\x1b(B\n\x1b]8;;https://x.example\x07run 5\x1b]8;;\x07 X\x08XY\n",
    )
    assert found.text == "Pool: no slot\nrun 5 XY"


def test_random_bytes_have_no_encoding(tmp_path: Path) -> None:
    import random

    path = tmp_path / "a"
    for seed in range(5):
        path.write_bytes(random.Random(seed).randbytes(4000))
        assert detect(path) is None


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Le prix est de 5 € pour le cœur de la ville, fermé le lundi.", "iso8859-15"),
        ("Das Maß ist 2½ m, it´s größer für Müller.", "cp1252"),
    ],
)
def test_latin_9_is_known_by_its_letters(text: str, codec: str) -> None:
    assert decode_bytes(text.encode(codec)) == text


def test_curly_quotes_are_not_those_of_latin_9() -> None:
    text = "Die Währung „¤“ – größer als die für die Tür."
    assert decode_bytes(text.encode("cp1252")) == text


@pytest.mark.parametrize(
    "text",
    ["<p>" + 5 * "\xa0" + "Déjà vu" + 9 * "\xa0" + "à</p>", "ÉÉÉÉMÜÜÜÜLLÀÀÀÀA" * 9, "ÉÈÊÀ ÇÀÂÎ"],
    ids=["indented", "among letters", "a table"],
)
def test_declared_western_texts_stay(text: str) -> None:
    assert decode_bytes(text.encode("cp1252"), "iso-8859-1") == text


@pytest.mark.parametrize("label", ["windows-1252", "iso-8859-1"])
def test_other_scripts_under_both_labels(label: str) -> None:
    text = "Ключ от склада хранится у охранника"
    assert decode_bytes(text.encode("cp1251"), label) == text


@pytest.mark.parametrize("label", ["us-ascii", "unknown-8bit"])
@pytest.mark.parametrize(("text", "encoding"), [(t, e) for t, e in LEGACY if not e.startswith("iso2022")][:12], ids=lambda t: t[:8])
def test_a_label_of_programs_that_did_not_know_says_nothing(label: str, text: str, encoding: str) -> None:
    assert decode_bytes(text.encode(encoding), label) == decode_bytes(text.encode(encoding)) == text


@pytest.mark.parametrize("declared", ["windows-1252", "iso-8859-1"])
def test_markup_that_names_a_wrong_encoding_is_not_believed(declared: str) -> None:
    page = f'<html><head><meta charset="{declared}"></head><body><p>Το κλειδί της αποθήκης είναι στον φύλακα</p></body></html>'
    assert decode_bytes(page.encode("cp1253"), declared) == page


def test_questions_of_spanish_are_western() -> None:
    text = "La llave del almacén está con el guardia. ¿Cuándo? Mañana por la mañana, señor Núñez."
    assert decode_bytes(text.encode("cp1252")) == text


def test_characters_that_programs_add_to_iso_2022(tmp_path: Path) -> None:
    data = b"No. \x1b$B-!AR8K\x1b(B, \x1b$B-j\x1b(B\n"
    (tmp_path / "a.txt").write_bytes(data)
    for text in (decode_bytes(data, "iso-2022-jp"), decode_bytes(data), read_text(tmp_path / "a.txt")):
        assert text == "No. ①倉庫, ㈱\n"
