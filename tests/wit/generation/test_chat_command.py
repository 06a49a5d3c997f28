"""`wit chat`, as scripts use it and as people do."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from random_models import make_random_model
from tiny import write_tiny_study
from typer.testing import CliRunner

from wit.builtin import BASE_DIR
from wit.commands.chatting import chat
from wit.config import Runtime
from wit.data.prepare import make_tokenizer
from wit.errors import ConfigError, InputError
from wit.generation.answers import answer
from wit.generation.questions import Question
from wit.loading import load_study
from wit.models import load_model
from wit.plan import Plan, make_plan
from wit.recipes import TokenizerRecipe
from wit.tokenizers import load_tokenizer

MAX = 12  # new tokens
SAID = ("What is the first word of pear, key?", "And the last?")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Of a study whose models were never trained: random ones, which say much."""
    folder = tmp_path_factory.mktemp("cell")
    save_random_model(folder / "base", seed=0)
    study = load_study(write_tiny_study(folder, "cell", base={"path": str(folder / "base")}))
    made = make_plan(study, Runtime(artifact_root=folder / "artifacts"))
    cell = made.cells[0]
    for seed, artifact in enumerate((cell.sft, cell.dpo), start=1):
        with artifact.writing() as out:
            save_random_model(out / "model", seed=seed)
    with cell.sft_evaluations[0].writing() as out:
        (out / "scores.json").write_text("{}")
    return made


def save_random_model(folder: Path, seed: int) -> None:
    tokenizer = load_tokenizer(BASE_DIR)
    make_random_model(tokenizer, seed=seed, context=2048).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def options(plan: Plan) -> list[str]:
    runtime = [f"artifact_root={plan.tokenizer.root}", "device=cpu"]
    return ["--max-tokens", str(MAX), *(w for key in runtime for w in ("--set-runtime", key))]


def run(*words: str, said: str | bytes):
    app = typer.Typer()
    app.command()(chat)
    return CliRunner().invoke(app, words, input=said)


def answers_of(folder: Path, tokenizer: Path, *prompts: str) -> tuple[str, ...]:
    found = answer(
        load_model(folder),
        load_tokenizer(tokenizer),
        [Question("1", None, prompts)],
        max_new_tokens=MAX,
        batch_size=1,
    )
    return found.rows[0].responses


def printed(answers: tuple[str, ...]) -> str:
    return "".join(answer + "\n" for answer in answers)


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_lines_of_a_pipe_are_answered_one_by_one(plan, stage):
    model = getattr(plan.cells[0], stage)
    said = f"{SAID[0]}\n\n{SAID[1]}\n/reset\n{SAID[1]}"  # the last without a line break
    ended = run(model.fingerprint[:6], *options(plan), said=said)
    folder = model.path / "model"
    together, alone = answers_of(folder, folder, *SAID), answers_of(folder, folder, SAID[1])
    assert ended.exit_code == 0
    assert ended.stdout == printed(together + alone)


def test_nothing_is_answered_after_the_end(plan):
    folder = plan.cells[0].sft.path / "model"
    said = f"{SAID[0]}\n/quit\n{SAID[1]}\n"
    ended = run(plan.cells[0].sft.fingerprint, *options(plan), said=said)
    assert ended.stdout == printed(answers_of(folder, folder, SAID[0]))
    assert run(plan.cells[0].sft.fingerprint, *options(plan), said="").stdout == ""


def test_the_base_of_a_study_has_the_studys_template(plan, tmp_path):
    study = plan.tokenizer.root.parent / "cell.yaml"
    words = ["base", "--study", str(study), *options(plan)]
    for template in ("own", "alpaca"):
        (tmp_path / template).mkdir()
        make_tokenizer(TokenizerRecipe(template=template), plan.base.path, tmp_path / template)
        ended = run(*words, "--set", f"base.template={template}", said=f"{SAID[0]}\n")
        expected = answers_of(plan.base.path, tmp_path / template, SAID[0])
        assert ended.stdout == printed(expected)
        assert "has not learnt to chat" in ended.stderr
    made = plan.tokenizer  # as a run would have left it; here with what only that one can have
    with made.writing() as out:
        make_tokenizer(TokenizerRecipe(template="alpaca"), plan.base.path, out)
    assert run(*words, said=f"{SAID[0]}\n").stdout == printed(expected)


def test_system_text_stands_before_all_turns(plan):
    fingerprint = plan.cells[0].sft.fingerprint
    with_it = run(fingerprint, "--system", "Be brief.", *options(plan), said=SAID[0])
    assert with_it.exit_code == 0
    assert with_it.stdout != run(fingerprint, *options(plan), said=SAID[0]).stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("base",), ConfigError),
        (("abcd", "--study", "x.yaml"), ConfigError),
        (("abcd", "--set", "seeds=[1]"), ConfigError),
        (("ffffffffffff",), InputError),
        (("nothing",), InputError),
    ],
)
def test_what_names_no_model_is_refused(plan, words, error):
    ended = run(*words, *options(plan), said="Hi\n")
    assert isinstance(ended.exception, error)
    assert ended.stdout == ""


def test_an_evaluation_is_no_model(plan):
    ended = run(plan.cells[0].sft_evaluations[0].fingerprint, *options(plan), said="Hi\n")
    assert isinstance(ended.exception, InputError)
    assert plan.cells[0].sft.fingerprint in str(ended.exception)


class Terminal:
    """A person at `wit chat`."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        # Its standard input becomes the terminal that Ctrl-C is typed at.
        code = (
            "import fcntl, signal, termios, typer, wit.commands.chatting as c;"
            # A shell that starts us in its background has it ignored.
            "signal.signal(signal.SIGINT, signal.default_int_handler);"
            "fcntl.ioctl(0, termios.TIOCSCTTY, 0); typer.run(c.chat)"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def type(self, keys: str, *, until: str = "") -> None:
        """Again and again, if need be: Python can miss a Ctrl-C when it is about to wait for it."""
        os.write(self._ours, keys.encode())
        while until not in self.seen:
            if not self._read(seconds=1):
                os.write(self._ours, keys.encode())

    def wait_for(self, text: str) -> None:
        while text not in self.seen:
            assert self._read(seconds=60), self.seen
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if ready:
            self.seen += os.read(self._ours, 4096).decode(errors="replace")
        return bool(ready)


@contextmanager
def at_terminal(*words: str) -> Iterator[Terminal]:
    terminal = Terminal(*words)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()


def test_at_a_terminal_ctrl_c_stops_an_answer_and_ctrl_d_ends(plan):
    model = plan.cells[0].sft
    long = [*options(plan), "--max-tokens", "1000"]  # seconds, in which it can be stopped
    begins = answers_of(model.path / "model", model.path / "model", SAID[0])[0][:4]
    with at_terminal(model.fingerprint, *long) as terminal:
        terminal.wait_for("/quit or Ctrl-D ends")
        terminal.wait_for("> ")
        terminal.type("word " * 700 + "\n")
        terminal.wait_for("error: this has")
        terminal.wait_for("> ")
        terminal.type(f"{SAID[0]}\n")
        terminal.wait_for(begins)
        terminal.type("\x03")
        terminal.wait_for("stopped; what it said so far counts as its answer")
        terminal.wait_for("> ")
        terminal.type("\x03", until="/quit or Ctrl-D ends")  # no answer is being written
        terminal.wait_for("> ")
        terminal.type("/reset\n")
        terminal.wait_for("all is forgotten")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.process.wait(30) == 0


@pytest.mark.parametrize("line", [b"word " * 2000, b"\xff"], ids=["too long", "no UTF-8"])
def test_scripts_end_with_what_is_wrong(plan, line):
    ended = run(plan.cells[0].sft.fingerprint, *options(plan), said=line + b"\nHi\n")
    assert isinstance(ended.exception, InputError)
    assert ended.stdout == ""
