"""Every message that a person may see has a test that provokes it and compares the words, not only the code."""

import ast
import re
import string
from pathlib import Path

import pytest
from train_bed import REPOSITORY  # puts the library on the path

from TransMedSegLib import Messages

ENOUGH_WORDS = 4
"""So many words in a row, or the longest run between two values, show that a test compares the text."""

ENGINE_WORDS = {
    "E205": "The GPU ran out of memory (needs about",
    "E803": "another grid",
    "E804": "appears twice:",
    "E806": "Training became unstable",
    "E908": "The written file differs from the mask",
}
"""Messages that only the engine writes, and words of theirs: the window shows what it is told."""

WORD = re.compile(r"\w[\w'.-]*")
CODE = re.compile(r"(?<![A-Z0-9])E[1-9]\d{2}(?!\d)")


def pieces(template):
    """The words between the values of a message."""
    texts = [text for text, _name, _spec, _conversion in string.Formatter().parse(template)]
    return [words for text in texts if (words := WORD.findall(text))]


def names_text(literal, template):
    """Whether a literal of a test holds enough words of a message in a row."""
    found = " ".join(WORD.findall(literal))
    enough = min(ENOUGH_WORDS, max(map(len, pieces(template))))
    runs = (words[start : start + enough] for words in pieces(template) for start in range(len(words) - enough + 1))
    return any(f" {' '.join(run)} " in f" {found} " for run in runs)


def units(source):
    """(codes, literals) of each test of a file, with the lists that its parameters come from."""
    tree = ast.parse(source)
    lists = {target.id: node.value for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            used = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} & set(lists)
            parts = [node, *(lists[name] for name in sorted(used))]
            literals = [one.value for part in parts for one in ast.walk(part) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            codes = set(CODE.findall(node.name.replace("_", " "))) | {code for text in literals for code in CODE.findall(text)}
            yield codes, literals


def proven(sources, templates):
    """Codes that a test names together with the words of their message."""
    found = set()
    for source in sources:
        for codes, literals in units(source):
            found |= {code for code in codes & set(templates) if any(names_text(one, templates[code]) for one in literals)}
    return found


def messages():
    """Every code that a person may see in the window, and its words."""
    return {**Messages.texts(), **ENGINE_WORDS}


def test_every_message_is_provoked_and_its_words_are_compared():
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("test_*.py")) if path != Path(__file__)]
    assert sorted(set(messages()) - proven(sources, messages())) == []


def test_the_words_of_the_engine_are_the_engine_s_own():
    """Its source holds them, so that no test compares words that nobody says."""
    engine = REPOSITORY / "TransMedSeg" / "semiseg"
    source = "\n".join(path.read_text(encoding="utf-8") for path in engine.rglob("*.py"))
    assert [code for code, words in ENGINE_WORDS.items() if not names_text(source, words)] == []
    assert not set(ENGINE_WORDS) & set(Messages.texts()), "one place for each text"


def test_every_code_of_the_window_has_a_message():
    library = REPOSITORY / "TransMedSeg" / "TransMedSegLib"
    sources = [re.sub("# noqa.*", "", path.read_text(encoding="utf-8")) for path in library.glob("*.py")]
    named = {code for source in sources for code in CODE.findall(source)}
    assert sorted(named - set(messages())) == []
    assert len(named) >= 75


def test_every_message_is_explained():
    explained = (REPOSITORY / "docs" / "messages.md").read_text(encoding="utf-8")
    assert sorted(set(messages()) - set(CODE.findall(explained))) == []


TEMPLATES = {"E504": "No progress for {seconds} s.", "E503": "The system ended the program, most likely because memory ran out ({total_gb} GB)."}


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ("def test_E504_silence():\n    assert said() == 'No progress for 0 s. [E504]'", {"E504"}),
        ("def test_silence():\n    assert code == 'E504' and said() == f'No progress for {n} s.'", {"E504"}),
        ("SAID = [('E503', 'The system ended the program')]\n@mark(SAID)\ndef test_all(code, text):\n    assert (code, text) == said()", {"E503"}),
        ("def test_E504_silence():\n    assert 'E504' in said()", set()),
        ("def test_E504_silence():\n    assert said() == message('E504', seconds=0)", set()),
        ("def test_silence():\n    assert said() == 'No progress for 0 s.'", set()),
        ("def test_E503_memory():\n    assert said().startswith('The system ended')", set()),
        ("def helper_E504():\n    assert said() == 'No progress for 0 s. [E504]'", set()),
    ],
)
def test_only_words_prove_that_words_were_compared(source, codes):
    assert proven([source], TEMPLATES) == codes
