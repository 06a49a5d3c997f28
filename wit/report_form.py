"""What the form of the deployment ``report`` asks for."""

from pydantic import Field

from wit.config import Runtime
from wit.form_fields import file_of
from wit.loading import Override, load_runtime
from wit.settings import Settings


class ReportRequest(Settings):
    """The report of a study that has run, made again from what MLflow knows."""

    study: str = Field(
        default="quickstart",
        title="Study",
        description="Name of a study that has run, or its file.",
    )
    version: str | None = Field(
        default=None,
        title="Version",
        description="Of several studies of one name; empty: started last.",
    )
    runtime_file: str | None = Field(
        default=None,
        title="Runtime file",
        description="Says where MLflow and the artifact root are.",
    )
    runtime_settings: list[str] = Field(
        default=[],
        title="Other runtime settings",
        description="Any key of the runtime file as key=value.",
    )

    def load_runtime(self) -> Runtime:
        """The runtime file with what differs."""
        place = type(self).model_fields["runtime_settings"].title
        given = [Override(text, f"{place}: {text}") for text in self.runtime_settings]
        return load_runtime(file_of(self.runtime_file), given)
