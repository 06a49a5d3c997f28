"""What the errors of MLflow, its database and the network mean: the store is away, or is wrong."""

import re

from wit.errors import InputError, StoreDownError, first_line
from wit.lineage.addresses import shown
from wit.lineage.place import REMEDY, SQLITE, is_up

# What a server, a proxy before it, or a database says that may answer later.
AWAY = re.compile(
    r"too many (429|50\d)|error code (429|50[0234])|max retries exceeded|timed? ?out"
    r"|connection (reset|aborted|refused)|remote end closed|database is locked",
    re.IGNORECASE,
)
TABLE_IS_MISSING = "no such "  # SQLite's word for what PostgreSQL says by another error


def failure(error: Exception, uri: str) -> InputError:
    """One sentence about an error of MLflow, SQLAlchemy or the system.

    Returns:
        A StoreDownError where the store may answer later; else an InputError.
    """
    from sqlalchemy.exc import OperationalError

    reason = first_line(error)[:300]
    # MLflow says by this code that its database failed.
    is_operational = (
        isinstance(error, (OperationalError, ConnectionError, TimeoutError))
        or getattr(error, "error_code", None) == "TEMPORARILY_UNAVAILABLE"
    ) and TABLE_IS_MISSING not in reason
    is_away = is_operational or AWAY.search(reason) or not is_up(uri)
    kind = StoreDownError if is_away else InputError
    said = f"MLflow at {shown(uri)} does not answer as it should: {reason}"
    return kind(f"{said.rstrip('.')}. {REMEDY}")


def ask_once(uri: str) -> None:
    """Connects to the database of ``uri``; MLflow itself would try for 100 seconds.

    Raises:
        SQLAlchemyError: It refuses.
    """
    if uri.startswith((SQLITE, "http", "databricks")):
        return
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
