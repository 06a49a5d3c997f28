"""Chat templates for bases that bring none."""

from collections.abc import Container
from pathlib import Path

from wit.errors import BaseModelError, ConfigError, first_line

OWN = "own"
FOLDER = Path(__file__).parent
# Tokens that a template writes by name; all others end a turn with the base's own end of text.
OWN_TOKENS = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
}


def template_names() -> list[str]:
    """Names of the built-in templates."""
    return sorted(file.stem for file in FOLDER.glob("*.jinja"))


def check_tokens(name: str, known: Container[str], base: Path) -> None:
    """Whether a base has the tokens that a template writes.

    Without them a marker would be plain text, which anybody can write, and which ends nothing.

    Args:
        name: Of a template, as for ``read_template``.
        known: Texts of the tokens that were added to the base's vocabulary.
        base: For the message.

    Raises:
        BaseModelError: It lacks one; says which templates need none.
    """
    missing = [token for token in OWN_TOKENS.get(name, ()) if token not in known]
    if missing:
        others = [other for other in template_names() if other not in OWN_TOKENS]
        raise BaseModelError(
            f"{base}: the tokenizer has no special token {missing[-1]!r}, which the template "
            f"{name} needs; set base.template to one that ends a response with the base's own "
            f"end of text: {', '.join(others)}"
        )


def read_template(name: str) -> str | None:
    """The text of a template; nothing for ``own``, the tokenizer's.

    Args:
        name: ``own``, a built-in name, or the path of a ``.jinja`` file.

    Raises:
        ConfigError: There is no such template, or it is no Jinja; names the line.
    """
    if name == OWN:
        return None
    file = Path(name) if name.endswith(".jinja") else FOLDER / f"{name}.jinja"
    if not file.is_file():
        allowed = ", ".join([OWN, *template_names()])
        raise ConfigError(f"{name!r}: no such template; allowed: {allowed}, or a .jinja file")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name!r}: cannot be read: {first_line(error)}") from None
    if file.parent != FOLDER:
        _check_syntax(file, text)
    return text


def _check_syntax(file: Path, text: str) -> None:
    from jinja2 import TemplateSyntaxError
    from transformers.utils.chat_template_utils import (
        _compile_jinja_template,  # pyright: ignore[reportPrivateUsage]
    )

    if not text.strip():
        raise ConfigError(f"{file}: is empty; write a chat template into it")
    try:
        _compile_jinja_template(text)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{file}:{error.lineno}: is no Jinja template: {error.message}") from None
