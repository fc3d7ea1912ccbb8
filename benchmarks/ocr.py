"""How well and how fast pages without text are read: two engines, eight languages, clean, noisy and turned pages.

    python -m benchmarks.ocr [--languages en,de]

Pages are drawn from known text in the fonts of Debian's fonts-dejavu-core and fonts-noto-cjk. The first figure is the share of
characters that are right: 1 - edit distance / length, without white space. The second is pages a minute of one core: processor
seconds of the process and of what it starts, after a first page that brings the models into memory.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.report import machine, save, table
from pipeline.parse.hyphens import Words
from pipeline.parse.ocr.lines import ordered, paragraphs
from pipeline.parse.ocr.rapid import Rapid
from pipeline.parse.ocr.tesseract import Tesseract

LATIN = "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf"
WIDE = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
#: Language, Tesseract's name for it, font, characters in a line of A4 and text: the first articles of the Universal Declaration
#: of Human Rights, or sentences of the same length.
LANGUAGES = {
    "en": ("eng", LATIN, 78, (
        "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience "
        "and should act towards one another in a spirit of brotherhood. Everyone is entitled to all the rights and "
        "freedoms set forth in this Declaration, without distinction of any kind, such as race, colour, sex, language, "
        "religion, political or other opinion, national or social origin, property, birth or other status."
    )),
    "de": ("deu", LATIN, 78, (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und"
        " sollen einander im Geist der Brüderlichkeit begegnen. Jeder hat Anspruch auf die in dieser Erklärung "
        "verkündeten Rechte und Freiheiten ohne irgendeinen Unterschied, etwa nach Rasse, Hautfarbe, Geschlecht, "
        "Sprache, Religion, politischer oder sonstiger Überzeugung, nationaler oder sozialer Herkunft."
    )),
    "fr": ("fra", LATIN, 78, (
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
        "conscience et doivent agir les uns envers les autres dans un esprit de fraternité. Chacun peut se prévaloir de"
        " tous les droits et de toutes les libertés proclamés dans la présente Déclaration, sans distinction aucune, "
        "notamment de race, de couleur, de sexe, de langue, de religion, d'opinion politique."
    )),
    "es": ("spa", LATIN, 78, (
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
        "conciencia, deben comportarse fraternalmente los unos con los otros. Toda persona tiene los derechos y "
        "libertades proclamados en esta Declaración, sin distinción alguna de raza, color, sexo, idioma, religión, "
        "opinión política o de cualquier otra índole, origen nacional o social, posición económica, nacimiento."
    )),
    "ru": ("rus", LATIN, 72, (
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны"
        " поступать в отношении друг друга в духе братства. Каждый человек должен обладать всеми правами и всеми "
        "свободами, провозглашенными настоящей Декларацией, без какого бы то ни было различия, как-то в отношении расы,"
        " цвета кожи, пола, языка, религии, политических или иных убеждений."
    )),
    "el": ("ell", LATIN, 72, (
        "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι με "
        "λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης. Κάθε άνθρωπος "
        "δικαιούται να επικαλείται όλα τα δικαιώματα και όλες τις ελευθερίες που προκηρύσσει η παρούσα Διακήρυξη, χωρίς"
        " καμία απολύτως διάκριση, ειδικότερα ως προς τη φυλή, το χρώμα, το φύλο, τη γλώσσα."
    )),
    "zh": ("chi_sim", WIDE, 38, (
        "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。人人有资格享有"
        "本宣言所载的一切权利和自由,不分种族、肤色、性别、语言、宗教、政治或其他见解、国籍或社会出身、财产、"
        "出生或其他身分等任何区别。人人有权享有生命、自由和人身安全。任何人不得使为奴隶或奴役;一切形式的奴隶"
        "制度和奴隶买卖,均应予以禁止。"
    )),
    "ja": ("jpn", WIDE, 38, (
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良"
        "心とを授けられており、互いに同胞の精神をもって行動しなければならない。すべて人は、人種、皮膚の色、性"
        "、言語、宗教、政治上その他の意見、国民的若しくは社会的出身、財産、門地その他の地位又はこれに類するい"
        "かなる事由による差別をも受けることなく、この宣言に掲げるすべての権利と自由とを享有することができる。"
    )),
}  # fmt: skip
PAGES = ("300 dpi", "150 dpi", "100 dpi", "200 dpi, noisy", "200 dpi, turned by 90°", "200 dpi, turned by 180°")
#: Paragraphs of a page, and the size of its type in points.
REPEATS, POINTS = 6, 11
TIMEOUT_S = 120.0


def drawn(language: str, dpi: int) -> Image.Image:
    """A page of A4 with the text of a language."""
    _, font_file, width, text = LANGUAGES[language]
    page = Image.new("L", (round(8.27 * dpi), round(11.69 * dpi)), 255)
    size = POINTS * dpi / 72
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    full = "\n\n".join(["\n".join(lines)] * REPEATS)
    place = (0.9 * dpi, 0.9 * dpi)
    ImageDraw.Draw(page).multiline_text(place, full, fill=20, font=ImageFont.truetype(font_file, size), spacing=0.3 * size)
    return page


def page_of(language: str, name: str) -> Image.Image:
    """One of PAGES."""
    page = drawn(language, int(name.split()[0]))
    if "noisy" in name:
        noise = np.random.default_rng(1).normal(0, 25, (page.height, page.width))
        blurred = page.rotate(1.0, fillcolor=255, resample=Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))
        page = Image.fromarray(np.clip(np.asarray(blurred) * 0.8 + 20 + noise, 0, 255).astype(np.uint8))
    if "turned" in name:
        page = page.rotate(int(name.split()[-1].rstrip("°")), expand=True)
    return page


def right(read: str, text: str) -> float:
    """Share of the characters of `text` that were read, without white space; at least 0."""
    read, text = "".join(read.split()), "".join(text.split())
    before = list(range(len(text) + 1))
    for row, mark in enumerate(read, 1):
        now = [row]
        for column, wanted in enumerate(text, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (mark != wanted)))
        before = now
    return max(0.0, 1 - before[-1] / max(1, len(text)))


def processor_s() -> float:
    """Processor seconds of this process and of those that it has started and that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measured(languages: list[str]) -> Iterator[tuple[str, str, str, float, float]]:
    """Language, page, engine, share of characters right, and processor seconds."""
    rapid = Rapid()
    rapid.lines(np.stack([np.asarray(drawn("en", 100))] * 3, axis=-1), TIMEOUT_S)
    for language in languages:
        engines: dict[str, Rapid | Tesseract] = {"RapidOCR": rapid, "Tesseract": Tesseract(LANGUAGES[language][0])}
        for name in PAGES:
            pixels = np.stack([np.asarray(page_of(language, name))] * 3, axis=-1)
            for engine, reader in engines.items():
                before = processor_s()
                regions = ordered(reader.lines(pixels, TIMEOUT_S))
                took = processor_s() - before
                words = Words()
                text = "\n".join(part for region in regions for part in paragraphs(region, words))
                yield language, name, engine, right(text, LANGUAGES[language][3] * REPEATS), took


def main() -> None:
    """Print the tables and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--languages", default=",".join(LANGUAGES))
    languages = parser.parse_args().languages.split(",")
    os.environ["OMP_THREAD_LIMIT"] = "1"
    random.seed(1)
    share: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for language, name, engine, good, took in measured(languages):
        share[language, engine][name] = round(good, 4)
        seconds[engine][name].append(took)
    rows = [[language, engine, *(f"{100 * one[name]:.1f}" for name in PAGES)] for (language, engine), one in share.items()]
    print(table(["language", "engine", *PAGES], rows))
    pace = {engine: {name: round(60 / fmean(took), 1) for name, took in one.items()} for engine, one in seconds.items()}
    print(table(["engine", *PAGES], [[engine, *(one[name] for name in PAGES)] for engine, one in pace.items()]))
    save("ocr", {"right": {" ".join(key): one for key, one in share.items()}, "pages_per_minute": pace})
    print(machine())


if __name__ == "__main__":
    main()
