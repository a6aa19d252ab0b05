"""What counts as a database that is away, whatever class its error has."""

from __future__ import annotations

import time

import pytest
from django.db import DataError, Error, IntegrityError, InterfaceError, InternalError, OperationalError, connection
from django.db import transaction as transactions
from psycopg import errors

from access_app.outages import is_outage


def of_django(error: Error, cause: BaseException | None = None) -> Error:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (OperationalError("server closed the connection unexpectedly"), True),
        (InterfaceError("the connection is closed"), True),
        (of_django(OperationalError(), errors.AdminShutdown()), True),
        (of_django(OperationalError(), errors.TooManyConnections()), True),
        (of_django(InternalError(), errors.IdleInTransactionSessionTimeout()), True),
        (of_django(InternalError(), errors.ReadOnlySqlTransaction()), True),
        (of_django(InternalError(), errors.InFailedSqlTransaction()), False),
        (of_django(OperationalError(), errors.StatementTooComplex()), False),
        (of_django(DataError(), errors.NumericValueOutOfRange()), False),
        (IntegrityError("UNIQUE constraint failed"), False),
        (ValueError("not of the database"), False),
    ],
)
def test_an_outage_is_told_from_a_refusal(error, away):
    assert is_outage(error) is away


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_session_that_the_server_ended_for_standing_still_is_an_outage_and_the_next_one_works():
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '1ms'")
    # Under load the link may be found closed before the server's last words are read.
    with pytest.raises((InternalError, OperationalError)) as caught:
        _stand_still()
    assert is_outage(caught.value)
    connection.close()
    with transactions.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _stand_still() -> None:
    with transactions.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        time.sleep(0.5)
        cursor.execute("SELECT 1")
