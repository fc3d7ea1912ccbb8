"""Words of many scripts and languages, found through real searches of the embedded store, and the rules behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from pipeline.store.bm25 import document_weights
from pipeline.store.edge import EdgeStore
from pipeline.store.languages import FUNCTION_WORDS, STEMMERS, fold, stems
from pipeline.store.words import asked_grams, compounds, grams, normal, pieces
from pipeline.types import DocumentInfo, EmbeddedChunk, Language
from tests.made_points import DIMENSION, made_document, made_points, made_vector

THAI = ("กุญแจโกดังอยู่กับยามรักษาการณ์", "การประชุมเริ่มวันจันทร์หน้า")
LAO = ("ກະແຈສາງຢູ່ກັບຍາມ", "ການປະຊຸມເລີ່ມວັນຈັນ")
KHMER = ("កូនសោឃ្លាំងនៅជាមួយអ្នកយាម", "ការប្រជុំចាប់ផ្តើមថ្ងៃច័ន្ទ")
BURMESE = ("ဂိုဒေါင်သော့ကို အစောင့်ထံတွင်ထားသည်", "အစည်းအဝေးကို တနင်္လာနေ့တွင်ကျင်းပမည်")
CHINESE = ("仓库的钥匙由门卫保管。", "会议定于星期一举行。")
JAPANESE = ("倉庫の鍵は警備員がサーバー室で保管しています。", "会議は月曜日に開かれます。")
KOREAN = ("창고 열쇠는 경비원이 집에 보관합니다.", "회의는 월요일에 있습니다.")
HEBREW = ("מַפְתֵּחַ הַמַּחְסָן אֵצֶל הַשּׁוֹמֵר", "הדלת סגורה")
ARABIC = ("مِفْتَاحُ المَخْزَنِ عِنْدَ الحَارِسِ", "الباب مغلق")

#: Question, and texts of which the first must be found, and no other.
FOUND = [
    ("กุญแจ", *THAI),
    ("โกดัง", *THAI),
    ("ກະແຈ", *LAO),
    ("ឃ្លាំង", *KHMER),
    ("ဂိုဒေါင်", *BURMESE),
    ("သော့", *BURMESE),
    ("钥匙", *CHINESE),
    ("倉庫の鍵", *JAPANESE),
    ("ｻｰﾊﾞｰ", *JAPANESE),
    ("경비원", *KOREAN),
    ("열쇠를 경비원에게", *KOREAN),
    ("집을", *KOREAN),
    ("מפתח", *HEBREW),
    ("مفتاح المخزن", *ARABIC),
    ("المفتاح", *ARABIC),
    ("कल", "कल कार्यालय बंद है।", "कला प्रदर्शनी का उद्घाटन मुख्य भवन में होगा।"),
    ("குளம்", "குளம் ஆழமானது", "கூட்டம் திங்கள்"),
    ("চাবি", "গুদামের চাবি", "সভা সোমবার"),
    ("αποθήκης", "Το κλειδί της ΑΠΟΘΗΚΗΣ είναι στον φύλακα.", "Η πόρτα"),
    ("ΟΔΥΣΣΕΑΣ", "Ο Οδυσσέας γύρισε", "Η πόρτα"),
    ("istanbul ışıkları", "İSTANBUL IŞIKLARI geç saatte söner.", "Kapı kapalı."),
    ("strasse buch", "Die Straße der Bücher.", "Ein Haus am See."),
    ("cafe musee", "Le café du musée reste fermé le lundi.", "La porte est ouverte."),
    ("lodz", "Łódź to miasto", "Drzwi"),
    ("kobenhavn", "Toget til København", "Døren er lukket"),
    ("елка", "Ёлка стоит", "Дверь закрыта"),
    ("میخواهم كتاب", "می\u200cخواهم کتاب", "در بسته است"),
    ("file 5", "ﬁle №5", "x"),
    ("123", "price ١٢٣", "price"),
    ("Handbuch", "Das Hand\u00adbuch", "Das Heft"),
    ("locking warehouses", "The warehouse is locked at night.", "The house is open."),
    ("entrepôts", "Les clés de l'entrepôt sont chez le gardien.", "La porte est ouverte."),
    ("almacenes", "Las llaves del almacén están con el guardia.", "La puerta cerrada."),
    ("informação", "As informações do armazém", "A porta fechada"),
    ("informacoes", "As informações do armazém", "A porta fechada"),
    ("magazzini", "Le chiavi del magazzino sono dal custode.", "La porta chiusa."),
    ("sleutel", "De sleutels van het magazijn liggen bij de bewaker.", "De deur is dicht."),
    ("bil", "Bilarna står i garaget och väntar.", "Dörren är stängd."),
    ("varasto", "Varaston avaimet ovat vartijalla.", "Ovi on kiinni."),
    ("kulcs", "A raktár kulcsai az őrnél vannak.", "Az ajtó zárva van."),
    ("magazyn", "Klucze do magazynu są u strażnika.", "Drzwi są zamknięte."),
    ("anahtar", "Anahtarlar bekçide.", "Kapı kapalı."),
    ("охранники склады", "Ключи от склада у охранника.", "Дверь закрыта"),
    ("user name", "call getUserName()", "nothing"),
    ("retry", "set MAX_RETRY_COUNT", "nothing"),
    ("to be", "to be or not to be", "nothing"),
]
#: Question, and texts of which the first must be the best.
FIRST = [
    ("C#", "We write the billing service in C#.", "Vitamin C is in cupboard C.", "The engine is written in C++."),
    ("C++", "The engine is written in C++.", "We write the billing service in C#.", "Vitamin C is in cupboard C."),
    (".NET", "Runs on .NET 8", "A fishing net", "ASP.NET pages"),
    ("node.js", "We use node.js in production", "a node of the js tree"),
    ("E-1042", "Error E-1042 in unit 7", "Error E-1043 in unit 1042", "E is 1042"),
    ("3.11.2", "Upgrade to 3.11.2 today", "Chapter 3, page 11, line 2 and 2 again"),
    ("/etc/nginx/nginx.conf", "edit /etc/nginx/nginx.conf", "nginx lives in etc; conf of nginx nginx"),
    ("getUserName", "call getUserName()", "get the name of the user"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeStore]:
    """A store with the texts of all cases in one collection."""
    opened = EdgeStore(tmp_path_factory.mktemp("words") / "qdrant", role="owner", reserve_bytes=0)
    opened.create("all", DIMENSION)
    points: list[tuple[DocumentInfo, EmbeddedChunk]] = []
    for case in {*FOUND, *FIRST}:
        for text in case[1:]:
            document = made_document(f"{len(points)}.txt", folder_of(case))
            _, embedded = made_points(document, 1, text=text)[0]
            points.append((document, EmbeddedChunk(replace(embedded.chunk, text=text, heading_path=()), made_vector(1))))
    opened.upsert("all", points)
    yield opened
    opened.close()


def folder_of(case: tuple[str, ...]) -> str:
    """The folder of a case's texts."""
    return f"/{[*FOUND, *FIRST].index(case)}"


def ranked(store: EdgeStore, case: tuple[str, ...]) -> list[str]:
    """The case's texts that a search by words finds, best first."""
    return [hit.text for hit in store.search("all", None, 10, {"folder": folder_of(case)}, case[0])]


@pytest.mark.parametrize("case", FOUND, ids=lambda case: case[0])
def test_a_word_is_found_however_it_is_written(store: EdgeStore, case: tuple[str, ...]) -> None:
    assert ranked(store, case) == [case[1]]


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case[0])
def test_an_exact_name_is_first(store: EdgeStore, case: tuple[str, ...]) -> None:
    assert ranked(store, case)[0] == case[1]


#: Texts of a handbook, and of each a question as people ask it, in other forms than the text's.
HANDBOOK = [
    ("The notice period is three months to the end of a quarter.", "What is it that I have to know about periods of notice?"),
    (
        "Travel costs are refunded when the receipts are handed in within four weeks.",
        "How do I get a refund of the cost of my travels?",
    ),
    ("Visitors sign the book at the gate and wear a badge in the building.", "Do the people who visit us have to wear badges?"),
    (
        "The server is restarted every night after the backup has finished.",
        "When are backups made and what is it that restarts the servers?",
    ),
    ("Error E-1042 means that the printer has no paper.", "What does the message E-1042 of the printers mean?"),
    ("What to do, who is to do it, and what it is that is to be done when it is to be done.", "doing"),
    ("The canteen is open from eleven to two; what it offers is on the board.", "Until when does the canteen open?"),
]


def test_long_questions_find_their_answers(tmp_path: Path) -> None:
    """Stems, numbers and function words together: a text of function words alone is no answer to a question full of them."""
    store = EdgeStore(tmp_path / "qdrant", role="owner", reserve_bytes=0)
    store.create("handbook", DIMENSION)
    for number, (text, _) in enumerate(HANDBOOK):
        document = made_document(f"{number}.txt")
        _, embedded = made_points(document, 1, text=text)[0]
        bare = replace(embedded.chunk, text=text, heading_path=())
        store.upsert("handbook", [(document, EmbeddedChunk(bare, made_vector(number)))])
    found = [store.search("handbook", None, 3, {}, question)[0].text for _, question in HANDBOOK]
    store.close()
    assert found == [text for text, _ in HANDBOOK]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("os.path.join", [("os.path.join", "os path join", "")]),
        ("__init__ utf-8", [("__init__", "init", ""), ("utf-8", "utf 8", "")]),
        (
            "C++11, C#. notepad++ i++",
            [("c++", "", ""), ("", "11", ""), ("c#", "", ""), ("notepad++", "notepad", ""), ("i++", "", "")],
        ),
        ("end. .NET ...and", [("", "end", ""), (".net", "net", ""), ("", "and", "")]),
        ("std::string me@a.org", [("std::string", "std string", ""), ("me@a.org a.org", "me a org", "")]),
        (r"Users\me", [("users/me", "users me", "")]),
        ("HTTPServer2 Straße", [("", "httpserver2", "http server2"), ("", "strasse", "")]),
        ("issue #12 - --", [("", "issue", ""), ("", "12", "")]),
    ],
)
def test_compounds_have_pieces(text: str, expected: list[tuple[str, str, str]]) -> None:
    found = [pieces(compound) for compound in compounds(normal(text)).findall(normal(text))]
    assert [(" ".join(one.whole), " ".join(one.words), " ".join(one.camel)) for one in found] == expected


def test_runs_of_syllables() -> None:
    assert pieces("in東京都").runs == (("東", "京", "都"),)
    assert grams(("東", "京", "都")) == ["東", "京", "都", "東京", "京都"]
    assert asked_grams(("東", "京", "都")) == ["東京", "京都"]
    assert asked_grams(("都",)) == ["都"]
    assert pieces(normal("น้ำโกดัง")).runs == (("น้ํา", "โก", "ดั", "ง"),)
    assert pieces("ឃ្លាំង").runs == (("ឃ្លាំ", "ង"),)
    assert pieces("အစောင့်").runs == (("အ", "စော", "င့်"),)
    assert (asked_grams(tuple("경비원에게")), asked_grams(tuple("집을")), asked_grams(("집",))) == (
        ["경비", "비원"],
        ["집을", "집"],
        ["집"],
    )


def test_accents_points_and_signs_are_left_out_where_people_leave_them_out() -> None:
    words = {
        "größe": "große",
        "ﬁ": "fi",
        "مِفْتَاح": "مفتاح",
        "שָׁלוֹם": "שלום",
        "мой": "мой",
        "ёж": "еж",
        "कला": "कला",
        "が": "が",
        "١٢": "12",
    }
    assert {word: fold(word) for word in words} == words


def test_stems_are_those_of_stored_weights() -> None:
    """Another version of Snowball may have others: then stored weights are void, and SPARSE needs a new name."""
    examples = {
        "en": ("generalizations", "general"), "de": ("aufeinanderfolgenden", "aufeinanderfolg"),
        "fr": ("continuellement", "continuel"),
        "es": ("canciones", "cancion"), "it": ("abbandonata", "abbandon"), "nl": ("lichamelijkheden", "lichamelijk"),
        "sv": ("jaktkarlarne", "jaktkarl"), "fi": ("edeltäjistään", "edeltaj"), "pl": ("magazynu", "magazyn"),
        "ru": ("важнейшими", "важн"), "el": ("αποθήκης", "αποθηκ"), "ar": ("المخزن", "مخز"),
    }  # fmt: skip
    assert {language: stems(word, (language,))[0] for language, (word, _) in examples.items()} == {
        language: stem for language, (_, stem) in examples.items()
    }


def test_a_text_has_the_stems_of_its_language() -> None:
    assert stems("bücher", ("de",)) == ("buch",)
    assert stems("informações", ("pt",)) == ("inform", "informaco")
    assert stems("книги", ("en",)) == stems("книга", ("en",))
    german, english = "Die Rechnung ist nicht bezahlt, Rechnungen", "The bill is not paid, Rechnungen"
    for text, equal in ((german, True), (english, False)):
        assert (set(document_weights("Rechnung", "de").indices) <= set(document_weights(text).indices)) is equal
    assert document_weights("houses", "none") != document_weights("houses", "en") == document_weights("house")


def test_the_languages_of_the_setting_are_those_of_the_stemmers() -> None:
    assert {*get_args(Language)} == {"auto", "none", *STEMMERS}
    assert {*FUNCTION_WORDS} < {*STEMMERS}
    for language in STEMMERS:
        assert stems("word", (language,))
