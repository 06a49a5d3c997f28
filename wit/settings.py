"""The base of all settings."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable, and strict about keys: a misspelt knob is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def stated(self) -> dict[str, Any]:
        """What a file says of it, as JSON: read again, it is the same.

        What is unset is left out, unless it would be set then.
        """
        whole = self.model_dump(mode="json")
        return {
            name: _stated(getattr(self, name), whole[name])
            for name, field in type(self).model_fields.items()
            if whole[name] is not None or field.get_default(call_default_factory=True) is not None
        }


def _stated(value: Any, dumped: Any) -> Any:
    """A value as JSON, without what is unset in the settings that it holds."""
    if isinstance(value, Settings):
        return value.stated()
    if isinstance(value, tuple) and isinstance(dumped, list):
        return [_stated(*both) for both in zip(value, dumped, strict=True)]
    if isinstance(value, dict) and isinstance(dumped, dict):
        pairs = zip(value.values(), dumped.items(), strict=True)
        return {key: _stated(one, of_one) for one, (key, of_one) in pairs}
    return dumped
