"""Chat templates for bases that bring none."""

from pathlib import Path

from wit.errors import ConfigError, first_line

OWN = "own"
FOLDER = Path(__file__).parent


def template_names() -> list[str]:
    """Names of the built-in templates."""
    return sorted(file.stem for file in FOLDER.glob("*.jinja"))


def read_template(name: str) -> str | None:
    """The text of a template; nothing for ``own``, the tokenizer's.

    Args:
        name: ``own``, a built-in name, or the path of a ``.jinja`` file.

    Raises:
        ConfigError: There is no such template, or it is not text.
    """
    if name == OWN:
        return None
    file = Path(name) if name.endswith(".jinja") else FOLDER / f"{name}.jinja"
    if not file.is_file():
        allowed = ", ".join([OWN, *template_names()])
        raise ConfigError(f"{name!r}: no such template; allowed: {allowed}, or a .jinja file")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name!r}: cannot be read: {first_line(error)}") from None
