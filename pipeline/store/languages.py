"""Languages of texts: which one a text is in, by its function words, and the stems of words.

Only words in Latin letters have several candidate languages. For other scripts the script decides.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import Stemmer

#: Code of a language in Latin letters -> its frequent function words, without accents. They tell the language of a text, and they
#: are the words that a question can do without.
FUNCTION_WORDS = {
    "en": """i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
        itself they them their theirs themselves what which who whom this that these those am is are was were be been
        being have has had having do does did doing would should could ought can will a an the and but if or because
        as until while of at by for with about against between into through during before after above below to from up
        down in out on off over under again further then once here there when where why how all any both each few more
        most other some such no nor not only own same so than too very just now s t d ll ve re don isn doesn didn""",
    "de": """der die das den dem des ein eine einen einem einer eines und oder aber nicht kein keine ist sind war waren wird werden
        wurde wurden hat haben hatte zu zum zur mit von vom im in am an auf aus bei bis durch fur gegen nach ohne uber
        um unter vor ich du er sie es wir ihr mich mir ihm ihn uns sich mein sein ihre ihren wer was wie wo wann warum
        welche welcher welches dass wenn als auch nur noch schon so sehr kann muss mussen soll dieser diese dieses man""",
    "fr": """le la les un une des du de d l et ou mais ne pas n est sont etait ete etre a ai ont avoir avait au aux en dans par
        pour sur sous avec sans chez entre vers que qui quoi dont quel quelle quels quelles comment pourquoi quand je
        tu il elle on nous vous ils elles se s ce c cet cette ces son sa ses mon ma mes leur leurs y qu j plus tres
        comme si aussi""",
    "es": """el la los las un una unos unas de del al y e o u pero no es son era fue ser esta estan estar ha han haber en con por
        para sin sobre entre desde hasta que quien quienes cual cuales como cuando donde porque yo tu ella nosotros
        ellos ellas se su sus mi mis lo le les me te nos este estos estas ese esa eso muy mas ya tambien si""",
    "it": """il lo la i gli le un uno una di del dello della dei degli delle dell d l a al allo alla ai agli alle all da dal dalla
        dai in nel nella nei nelle nell con su sul sulla sui per tra fra e ed o ma non che chi cui quale quali come
        quando dove perche io tu lui lei noi voi loro si ci vi mi ti suo sua suoi sue mio mia sono era erano essere ha
        hanno questo questa questi queste quello piu molto anche""",
    "pt": """o a os as um uma uns umas de do da dos das em no na nos nas ao aos por pelo pela pelos pelas para com sem sob sobre
        entre e ou mas nao sao era foi ser estar esta estao ha tem que quem qual quais como quando onde porque eu tu
        ele ela eles elas se seu sua seus suas meu minha este isto esse essa isso muito mais ja tambem""",
    "nl": """de het een en of maar niet geen is zijn was waren wordt worden werd heeft hebben had in op aan van voor met door bij
        naar uit over onder tussen tegen zonder tot om te ter ten die dat deze dit wie wat waar wanneer waarom hoe
        welke ik jij je hij zij ze wij we jullie hen hun haar hem mij me ons onze zich er ook nog al zo zeer kan
        kunnen moet moeten zal als dan""",
    "sv": """den det de en ett och eller men inte ej ar var vara blir har hade i pa av for med till fran om hos vid under over
        efter mellan utan mot att som vem vad nar hur varfor vilken vilket vilka jag du han hon vi ni dem sig sin sitt
        sina min din denna detta dessa ocksa mycket kan ska skall maste""",
    "da": """den det de en et og eller men ikke er var vaere bliver blev har havde i pa af for med til fra om hos ved under over
        efter mellem uden mod at som hvem hvad hvor hvornar hvordan hvorfor hvilken hvilket hvilke jeg du han hun vi
        dem sig sin sit sine min din denne dette disse ogsa meget kan skal""",
    "no": """den det de en et ei og eller men ikke er var vaere blir ble har hadde i pa av for med til fra om hos ved under over
        etter mellom uten mot a at som hvem hva hvor nar hvordan hvorfor hvilken hvilket hvilke jeg du han hun vi dere
        dem seg sin sitt sine min din denne dette disse ogsa mye kan skal""",
    "fi": """ja tai mutta ei eivat on ovat oli olivat olla ole etta jos kun kuin niin myos vain se ne tama nama tuo joka jotka mika
        mita kuka missa milloin miksi miten minka han he me te mina sina sen sita sille siita hanen heidan meidan
        kanssa ilman ennen jalkeen kautta mukaan voi voidaan""",
    "hu": """a az egy es vagy de nem ne van vannak volt voltak lesz lett hogy ha mint mert is csak meg mar ezt azt ez ezek azok aki
        ami amely amelyek ki mi mit hol mikor miert hogyan milyen melyik en te o ti ok ott itt kell lehet sem nincs
        minden utan elott kozott alatt felett nelkul szerint""",
    "pl": """i oraz lub albo ale nie jest sa byl byla bylo byly byc bedzie ma maja w we z ze na do od po za dla przez przed przy
        pod nad bez o u zeby jak jako kto co gdzie kiedy dlaczego ktory ktora ktore ja ty on ona ono my wy oni sie
        jego jej ich ten ta to te tego tej tych tym jesli gdy tylko bardzo juz czy""",
    "cs": """a i nebo ale ne neni je jsou byl byla bylo byly byt bude budou ma maji v ve z ze na do od po za pro pres pred pri pod
        nad bez o u s se si k ke jak jako kdo co kde kdy proc ktery ktera ktere ja ty on ona ono my vy oni jeho jeji
        jejich ten ta to tento tato toto pokud kdyz jen velmi uz""",
    "ro": """si sau dar nu este e sunt era erau fi fost a al ai ale un o unei unui unor in la de din pe cu fara pentru prin spre
        intre sub despre ca care ce cine cum cand unde eu tu el ea noi voi ei ele se sa isi lui lor acest aceasta
        acestea acesta mai foarte doar daca are au""",
    "tr": """ve veya ya ile ama fakat ancak bir bu su o da de ki mi mu degil icin gibi kadar gore sonra once daha en cok her hic
        var yok olan olarak ne nasil nerede neden niye kim hangi kac ben sen biz siz onlar onun bunu buna ise eger hem""",
    "ca": """el la els les un una uns unes de del dels d l al als i o pero no es son era ser esta en amb per sense sobre entre des
        fins que qui qual quals com quan on perque jo tu ell ella nosaltres ells se seu seva seus seves aquest aquesta
        aquests molt mes tambe""",
    "id": """yang dan atau tetapi tidak bukan adalah ada akan telah sudah di ke dari pada untuk dengan oleh dalam tentang antara
        sebagai seperti karena jika ini itu saya kamu dia kami kita mereka apa siapa mana kapan mengapa bagaimana juga
        hanya lebih sangat dapat bisa harus para""",
}

_SNOWBALL = """
    en:english de:german fr:french es:spanish it:italian pt:portuguese nl:dutch sv:swedish da:danish no:norwegian fi:finnish
    hu:hungarian pl:polish cs:czech ro:romanian tr:turkish ca:catalan id:indonesian ru:russian el:greek ar:arabic hy:armenian
"""
#: Code of a language -> Snowball's name of it.
STEMMERS = dict(pair.split(":") for pair in _SNOWBALL.split())
#: Language of the words in a script without other candidates.
SCRIPTS = (("\u0370", "\u03ff", "el"), ("\u0400", "\u052f", "ru"), ("\u0530", "\u058f", "hy"), ("\u0600", "\u06ff", "ar"))
#: Letters that English does not have, for texts without function words.
_LETTERS = """
    de:äöü fr:àâçèéêëîïôœùû es:áéíñóú it:àèéìòù pt:áâãçéêíóõú nl:ëï sv:åäö da:åæø no:åæø fi:äö hu:áéíóöőúüű pl:ąćęłńóśźż
    cs:áčďéěíňóřšťúůýž ro:âîășțşţ tr:çğıöşü ca:àçèéíòóú
"""
#: Words of these lists that are also usual words in English.
_ENGLISH_TOO = """
    comment war die was man also so son sin era come due care are sub till men under over door met had dan at on or sans main per
    para ten let hat her
"""
#: How much such a letter in a word counts, compared with a function word.
_LETTER_SHARE = 0.25
#: Languages within this share of the best count as equal: a short text gets the stems of all of them.
_EQUAL = 0.9
#: Letters that Unicode does not take apart, as people without them on the keyboard write them.
_PLAIN = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "đ": "d", "ħ": "h", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ŋ": "n"})
#: Marks that people leave out: accents, Hebrew points, Arabic vowel signs. The marks of other scripts are part of their letters.
_LEFT_OUT = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]"
)
#: Cyrillic letters that Unicode takes apart, although they are letters of their own.
_WHOLE = re.compile("(?:\u0438|\u0443)\u0306|\u0456\u0308|(?:\u0433|\u043a)\u0301")
_YEH_AND_KAF = str.maketrans("\u06cc\u0649\u06a9", "\u064a\u064a\u0643")


def fold(word: str) -> str:
    """A case-folded word without accents, points and vowel signs, as people type it; its digits as 0 to 9."""
    if word.isascii():
        return word
    apart = unicodedata.normalize("NFKD", word.translate(_PLAIN)).translate(_YEH_AND_KAF)
    kept = _WHOLE.sub(lambda found: unicodedata.normalize("NFC", found[0]), apart)
    there = unicodedata.normalize("NFC", _LEFT_OUT.sub("", kept))
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in there)


@lru_cache(maxsize=1)
def _hints() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Function word, and letter, -> the languages that have it."""
    words: dict[str, tuple[str, ...]] = {}
    for language, text in FUNCTION_WORDS.items():
        for word in dict.fromkeys(text.split()):
            words[word] = (*words.get(word, ()), language)
    letters: dict[str, tuple[str, ...]] = {}
    for language, its in (pair.split(":") for pair in _LETTERS.split()):
        for letter in its:
            letters[letter] = (*letters.get(letter, ()), language)
    return words, letters


@lru_cache(maxsize=1 << 16)
def hints(word: str) -> tuple[tuple[str, float], ...]:
    """Languages that a case-folded word speaks for, and how much; a word of several languages counts less for each."""
    words, letters = _hints()
    # A single letter may be anything.
    found = dict.fromkeys(words.get(fold(word), ()) if len(word) > 1 else (), 1.0)
    if found and word in _ENGLISH_TOO.split():
        found["en"] = 1.0
    share = 1.0
    if not found and not word.isascii():
        share, found = _LETTER_SHARE, {language: 1.0 for letter in word for language in letters.get(letter, ())}
    return tuple((language, share / len(found)) for language in found)


def is_function_word(word: str, languages: Iterable[str]) -> bool:
    """Whether a case-folded word is a function word of one of the languages."""
    return not set(_hints()[0].get(fold(word), ())).isdisjoint(languages)


def languages_of(scores: dict[str, float], default: str) -> tuple[str, ...]:
    """The languages with the most hints; `default` if it is among them, or if there is no hint."""
    best = max(scores.values(), default=0.0)
    if scores.get(default, 0.0) >= _EQUAL * best:
        return (default,)
    return tuple(language for language in FUNCTION_WORDS if scores.get(language, 0.0) >= _EQUAL * best)


_stemming = threading.Lock()


@lru_cache(maxsize=len(STEMMERS))
def _stemmer(language: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(STEMMERS[language], 0)  # words are cached with their terms


@lru_cache(maxsize=1 << 14)
def stems(word: str, languages: tuple[str, ...]) -> tuple[str, ...]:
    """The stems of a case-folded word without accents: in its script's language, or in each of `languages`.

    Rules of some languages need the accents that people leave out, so a word with accents may have two stems in a language: of
    the word as written, and of the word as typed without them.
    """
    if len(languages) == 1 and word.isascii():  # most words
        with _stemming:
            return (fold(_stemmer(languages[0]).stemWord(word)),)
    plain = fold(word)
    script = next((language for first, last, language in SCRIPTS if first <= plain[:1] <= last), "")
    if not script and plain[:1] > "\u024f":
        return (plain,)
    found: dict[str, None] = {}
    with _stemming:  # a stemmer has one buffer
        for language in (script,) if script else languages:
            made = _stemmer(language)
            found |= dict.fromkeys(fold(stem) for stem in made.stemWords([word, plain] if word != plain else [plain]))
    return tuple(found) or (plain,)
