"""The report of a study that has run, made again."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.report import report_again
from tasks.requests import as_deployed, refused
from wit.errors import InputError
from wit.past import name_of
from wit.report_form import ReportRequest


@flow(name="report", flow_run_name="report {request.study}")
def run_report(request: ReportRequest) -> State:
    """The report of a study that has run, from what MLflow knows.

    Args:
        request: Which study, and where it ran.
    """
    try:
        request = as_deployed(request)
        page = report_again(name_of(request.study), request.version, request.load_runtime())
    except InputError as error:
        return refused(error)
    return Completed(message=f"report: {page}", data=page)
