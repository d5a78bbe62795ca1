"""Parser of the answers in a chat model's response to a request for contradicting answers, one per line."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

_KIND = (
    r"(?:(?:inverted|contradict(?:ing|ory)|alternat(?:iv)?e|incorrect|false|wrong|possible|new|different|fictional|"
    r"fictitious|counterfactual|plausible|made-up)\s+)*"
)
_WHAT = r"(?:answer|response|reply|option|alternative|statement|version|contradiction|candidate|inversion)"
_CALM = r"(?:sure(?: thing)?|certainly|absolutely|of course|okay|ok|alright|got it|understood|great|no problem|gladly)"

_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_TAGS = re.compile(r"<\|[^|>\n]*\|>|</?(?:s|eos|answers?|responses?|end_of_turn)>", re.IGNORECASE)
_FENCE = re.compile(r"^\s*(?:```|~~~)[\w+-]*\s*$")
_RULE = re.compile(r"^\s*([-*_=])(?:\s*\1){2,}\s*$|^\s*(?:[\[\]{}]|\[\]|\{\}),?\s*$")

_EMPHASIS = (
    re.compile(r"(\*{2,3})(?=\S)([^*]+?)(?<=\S)\1"),
    re.compile(r"(?<![\w*])(\*)(?=\S)([^*]+?)(?<=\S)\*(?![\w*])"),
    re.compile(r"(?<!\w)(_{1,2})(?=[^\s_])([^_]+?)(?<=\S)\1(?!\w)"),
    re.compile(r"(`{1,3})([^`]+)\1"),
)
# Headings, block quotes, bold text that ends on another line, and a truncated JSON list.
_HEADING = re.compile(r"^(?:#{1,6}|>)\s+|^\*\*(?!\*)(?=\S)|^\[(?=\")")
_BULLET = re.compile(r"^(?:[•‣◦▪●·✓✔✅❌➤→➜]\s*|[-*+–—](?:\s+|$)|[-–—](?=[A-Z\"“«]))")

# Numbering styles, each with the run length that confirms it: capital letters with a dot may be initials.
_MARKS = (
    (re.compile(r"(\d{1,2})\.(?!\d)\s*"), 2),
    (re.compile(r"(\d{1,2})\)\s*"), 2),
    (re.compile(r"[(\[](\d{1,2})[)\]][.:]?(?:\s+|$)"), 2),
    (re.compile(r"(\d{1,2})\s?[:–—-](?:\s+|$)"), 2),
    (re.compile(r"#(\d{1,2})[.:)]?(?:\s+|$)"), 2),
    (re.compile("(\\d)\ufe0f?\u20e3\\s*"), 2),
    (re.compile(r"\(?([a-h])[.)](?:\s+|$)"), 2),
    (re.compile(r"\(?([A-H])\)(?:\s+|$)"), 2),
    (re.compile(r"([A-H])[.](?:\s+|$)"), 3),
    (re.compile(r"(i{1,3}|iv|vi{0,3})[.)](?:\s+|$)"), 2),
)
_LONE = 3  # number of leading styles for which a single item 1 is a numbering too
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii")
# Clubs and leagues with a number in their name: 1. FC Köln, 2. Bundesliga.
_CLUB = re.compile(r"1\.\s?(?:[A-Z][A-Za-z]?[A-Z]{1,2}|SC|Bundesliga|Liga|Division)\b")

_LABEL = re.compile(
    rf"^(?:{_KIND}{_WHAT}\s*(?:(?P<number>#?\d{{1,2}}|[A-H]|one|two|three|four|five|six)\s*[:.)–—-]|:)|"
    r"A(?P<short>\d{1,2})?\s*:|A(?P<dotted>\d{1,2})\.)(?:\s+|$)",
    re.IGNORECASE,
)
_PAIR = re.compile(r"^(?:question|q)\s*\d{0,2}\s*[:.].*?(?<!\w)(?:answer|a)\s*\d{0,2}\s*:\s*(?=\S)", re.IGNORECASE)
_QUESTION = re.compile(r"^(?:(?:the |original |given )?question|q)\s*\d{0,2}\s*(?::|\.(?=\s))", re.IGNORECASE)
_TRUTH = re.compile(
    r"^(?:the )?(?:original|given|correct|true|actual|real|undesired)(?: \w+)? (?:answer|fact)\s*:", re.I
)
_OPENING = re.compile(
    rf"^(?:{_CALM}|yes)?[,!.:;–—-]?\s*(?:(?:i can|i['’]d be|i['’]m|happy|glad)\b.{{0,60}}?[!.,:]\s*)?"
    rf"(?:based on .{{0,80}}?,\s*)?(?:(?:here|below|the following|these|listed)\s*(?:['’]s|['’]re|are|is)\b"
    rf"[^:]{{0,200}}?\b(?:{_WHAT}s?|contradict\w*)\b[^:]{{0,200}}?(?:\.\s*$|:\s*)|"
    rf"(?:here|below|the following)\b[^:]{{0,60}}[:!]$)",
    re.IGNORECASE,
)
_HEADLINE = re.compile(rf"^(?:the )?(?:\w+\s+)?{_KIND}{_WHAT}s(?:\b[^.:]*:)?\s*$", re.IGNORECASE)
_CALM_ALONE = re.compile(
    rf"^{_CALM}[!.,:]*\s*(?:(?:i['’](?:ll|d|m|ve)|i (?:can|will|have|would)|let me|happy|glad)\b.*)?$", re.I
)
_CALM_BEFORE = re.compile(rf"^{_CALM}!\s+(?=\S)", re.IGNORECASE)
_CLOSING = re.compile(
    r"^[(\[]?(?:(?:i )?hope (?:this|these|that|it|they)(?: all)? "
    r"(?:help|assist|work|meet|answer|suit|is what|are what)|let me know (?:if|whether|how|which|what|when|should)|"
    r"(?:please )?feel free to|please (?:note|let me|be aware|keep)|"
    r"(?:note|disclaimer|remark|explanation|reminder|p\.?s\.?)\s*:|"
    r"(?:note|remember|keep in mind),? that (?:these|all|the)|"
    r"(?:these|all(?: of)?(?: these| the)?|each of (?:these|the)|the (?:above|previous)) (?:above )?"
    rf"{_KIND}(?:{_WHAT}s?|lines)\b(?: above| below| provided| given)?,? (?:all |do |each |directly |clearly |"
    r"intentionally |deliberately )*(?:are|is|contradict|conflict|differ|were|should|have|provide|offer|present|give)|"
    rf"(?:all of )?these (?:all )?contradict|each (?:{_WHAT}|line) (?:contradicts|is)|"
    r"is there anything else|if you(?:['’]d| would| need| want| have)\b.*(?:let me know|feel free|ask|more|help)|"
    r"would you like (?:me|more|another)|do you (?:want|need) (?:me|more|another))",
    re.IGNORECASE,
)

# Limits per response, because the filter compares answers pairwise: a hundred times the number requested.
MOST = 200  # answers
LONGEST = 10_000  # characters of an answer; longer texts are truncated, and are not answers anyway
_WRAPS = 8  # maximum layers of quotes, bullets and labels around an answer
_LITERAL = 200_000  # maximum characters of a Python list: its syntax tree takes hundreds of bytes per character
_BROKEN = 8  # unreadable lists after which the search stops

_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“”", "‘": "’", "«": "»", "»": "«", "「": "」", "”": "”"}  # fmt: skip


@dataclass(slots=True)
class _Line:
    """One line of a response: its text, whether it begins an item, and its surroundings."""

    text: str
    after_blank: bool
    bullet: bool
    number: int | None = None
    labelled: bool = False


def answers(reply: str) -> list[str]:
    """Extract the answers from a chat model's raw response, in order, without surrounding markup.

    Thoughts, greetings, headings, questions, closing remarks, numbering, bullets, labels, emphasis and surrounding
    quotes are removed. A JSON list yields its strings. If at least two consecutive items are numbered, text directly
    below an item belongs to it, and text before the first item or after a blank line is dropped. No model is used, and
    no word within an answer is changed; :func:`meow_lightning.inversion.filters.filter_answers` judges the content.

    A number is a numbering only if the lines count up (1, 2, …), or as a lone ``1.``; ``1975 saw …`` is kept, and so is
    a lone ``1. FC Köln …``: a ``1.`` before a club's initials or a league is part of a name unless 2 follows. Capital
    letters are a numbering only from three consecutive lines, since ``A. Milne`` and ``B. Russell`` may be names.

    Args:
        reply: Raw response, any number of lines.
    """
    text = _THOUGHT.sub("", reply.replace("\r\n", "\n"))
    ends = [match.end() for match in _THOUGHT_END.finditer(text)]
    text = _TAGS.sub("", text[ends[-1] :] if ends else text)
    listed = _listed(text)
    items = _joined(_lines(text)) if listed is None else (_answer(each) for each in listed)
    return [item[:LONGEST] for item in islice(filter(None, items), MOST)]


def _joined(lines: list[_Line]) -> list[str]:
    """Join the text of every item or, without numbering, of every line that is an answer."""
    numbers = [line.number for line in lines if line.number is not None]
    numbered, first = len(numbers) > 1, min(numbers, default=0)
    items: list[list[str]] = []  # pieces of each answer
    started = within = False
    for line in lines:
        bare = _bare(line.text)
        noise = _noise(line.text) or _noise(bare)
        pieces = [bare] if bare else []
        if line.number is not None:
            # An item may repeat the question, with the answer below it.
            items.append([] if noise else pieces)
            started, within = True, not noise or bool(_QUESTION.match(line.text))
        elif noise:
            within = within and bool(_QUESTION.match(line.text))
        elif not numbered or (line.labelled and (not started or items[-1])):
            items.append(pieces)
        elif not started:
            # After a prompt that ends in "1." the first answer has no number.
            items += [pieces] if first > 1 else []
        elif within and (not items[-1] or not (line.after_blank or line.bullet)):
            items[-1] += pieces
        else:
            within = False
    return [_answer(" ".join(pieces)) for pieces in items]


def _lines(text: str) -> list[_Line]:
    lines, after_blank = [], False
    for raw in text.split("\n"):
        if _FENCE.match(raw):
            continue
        if not raw.strip() or _RULE.match(raw):
            after_blank = True
            continue
        plain = _HEADING.sub("", _plain(raw))
        bare = _BULLET.sub("", plain)
        lines.append(_Line(bare.strip(), after_blank, bullet=bare != plain))
        after_blank = False
    _number(lines)
    return lines


def _number(lines: list[_Line]) -> None:
    """Strip the numbering from numbered lines."""
    for line in lines:
        label = _LABEL.match(line.text)
        line.labelled = label is not None
        if label and any(label.groupdict().values()):
            line.number = 1
    for place, (mark, least) in enumerate(_MARKS):
        marked = [(line, match) for line in lines if line.number is None and (match := mark.match(line.text))]
        counts = [_count(match.group(1)) for _, match in marked]
        counting = all(0 < after - before <= 2 for before, after in pairwise(counts))
        if len(counts) < least or counts[0] > 2 or not counting:
            # Not a numbering, unless every number is a lone 1 that is not part of a name.
            lone = place < _LONE and set(counts) == {1}
            marked = [(line, match) for line, match in marked if lone and not _CLUB.match(line.text)]
        for line, match in marked:
            line.number, line.text = _count(match.group(1)), line.text[match.end() :].strip()


def _count(mark: str) -> int:
    if mark.isdigit():
        return int(mark)
    # "i" is Roman one: as the ninth letter it is out of reach for a list of answers.
    return _ROMAN.index(mark) + 1 if mark in _ROMAN else ord(mark.lower()) - ord("a") + 1


def _noise(text: str) -> bool:
    """Whether a line is not an answer: a greeting, a heading, the question, the truth, a closing remark."""
    opening = _OPENING.match(text)
    if opening and opening.end() == len(text):
        return True
    if _QUESTION.match(text) and not _PAIR.match(text):
        return True
    return any(pattern.match(text) for pattern in (_TRUTH, _HEADLINE, _CALM_ALONE, _CLOSING))


def _answer(text: str) -> str:
    """Strip the wrapping from a text that may be an answer; blank if it is not one, with or without its wrapping."""
    bare = _bare(text)
    return "" if _noise(text) or _noise(bare) else bare


def _bare(text: str) -> str:
    """Strip the wrapping from one answer and join it into one line."""
    text, before = _plain(text), ""
    for _ in range(_WRAPS):
        if text == before:
            break
        before = text
        for pattern in (_BULLET, _CALM_BEFORE, _OPENING, _PAIR, _LABEL):
            text = pattern.sub("", text)
        text = _unquoted(text.strip())
    return text


def _plain(text: str) -> str:
    """Strip emphasis from a text and collapse its blanks."""
    for pattern in _EMPHASIS:
        text = pattern.sub(r"\2", text)
    return " ".join(text.split())


def _unquoted(text: str) -> str:
    """Strip quotes around a whole text; ``"A" and "B"`` is unchanged."""
    closing = _QUOTES.get(text[:1])
    tail = re.search(r"[.,;]?,?$", text)
    body = text[: tail.start()] if tail else text
    if closing and len(body) > 2 and body[-1] in closing:
        inner = body[1:-1]
        if not _closes(inner, text[0], closing):
            end = tail.group().rstrip(",;") if tail else ""
            return inner if re.search(r"[.!?…]$", inner) else inner + end
    # One end of a quote that spans several lines; after a digit it may mean inches.
    if text.count('"') == 1:
        return re.sub(r'^"|(?<!\d)"[,;]?$', "", text)
    return text


def _closes(inner: str, opening: str, closing: str) -> bool:
    """Whether the opening quote of a text closes inside it, so that the last quote mark belongs to another quote."""
    depth = 0
    for place, char in enumerate(inner):
        before, after = inner[place - 1 : place], inner[place + 1 : place + 2]
        if char in closing and not (before.isalnum() and after.isalnum()):
            if opening == closing and (not before or before.isspace() or before in "(["):
                depth += 1
            elif depth == 0:
                return True
            else:
                depth -= 1
        elif char == opening and opening != closing:
            depth += 1
    return False


# keys of JSON values that are not answers
_ASIDE = re.compile(r"question|original|correct|true|note|reason|explan|^id$", re.IGNORECASE)


def _listed(text: str) -> list[str] | None:
    """Extract the strings in the JSON lists or objects of a response; ``None`` if it contains none."""
    strings: list[str] = []
    decoder, place, broken = json.JSONDecoder(), 0, 0
    for start in re.finditer(r"^[^\S\n]*([\[{])", text, re.MULTILINE):
        if start.start(1) < place or broken == _BROKEN:
            continue
        try:
            value, place = decoder.raw_decode(text, start.start(1))
        except (ValueError, RecursionError):
            value, broken = _literal(text[start.start(1) :]), broken + 1
        strings += _texts(value)
    return strings or None


def _literal(text: str) -> object:
    """Parse the Python list at the start of a text, since models write these too; ``None`` if it has none."""
    end = text.rfind("]", 0, _LITERAL)
    try:
        return ast.literal_eval(text[: end + 1])
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _texts(value: object) -> Iterator[str]:
    """Yield the strings in JSON values, in order, at any depth."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            waiting += reversed([each for key, each in value.items() if not _ASIDE.search(str(key))])
