"""Ordinary uses of SQLAlchemy with Spanner's dialect; prints what each found as JSON. Knows no Spangate."""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    Float,
    LargeBinary,
    Numeric,
    String,
    create_engine,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

URL = f"spanner+spanner:///projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/instances/main/databases/post"


class Base(DeclarativeBase):
    pass


class Parcel(Base):
    __tablename__ = "Parcels"

    ParcelId: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    Sender: Mapped[str | None] = mapped_column(String)
    Fragile: Mapped[bool | None] = mapped_column(Boolean)
    Weight: Mapped[float | None] = mapped_column(Float)
    Value: Mapped[Any] = mapped_column(Numeric)
    Label: Mapped[bytes | None] = mapped_column(LargeBinary)
    Posted: Mapped[datetime.date | None] = mapped_column(Date)


class Entry(Base):
    __tablename__ = "Ledger"

    EntryId: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    Amount: Mapped[int | None] = mapped_column(BigInteger)


def objects(engine: Any) -> Any:
    """Objects are stored, found, changed and deleted."""
    with Session(engine) as session:
        session.execute(delete(Parcel).where(Parcel.ParcelId.between(201, 209)))
        session.commit()
    with Session(engine) as session:
        posted = datetime.date(2030, 1, 2)
        session.add(Parcel(ParcelId=201, Sender="Zoë", Fragile=True, Weight=1.5, Posted=posted))
        session.add_all(Parcel(ParcelId=number, Sender="many") for number in range(202, 206))
        session.commit()
    with Session(engine) as session:
        one = session.get_one(Parcel, 201)
        found = [one.Sender, one.Fragile, one.Weight, str(one.Posted), one.Value]
        one.Weight = 2.5
        session.delete(session.get_one(Parcel, 205))
        session.commit()
    with Session(engine) as session:
        many = select(func.count()).select_from(Parcel).where(Parcel.ParcelId.between(201, 209))
        heavy = session.scalars(select(Parcel.ParcelId).where(Parcel.Weight > 2, Parcel.ParcelId < 210)).all()
        ids = session.scalars(
            select(Parcel.ParcelId)
            .where(Parcel.Sender.like("ma%"), Parcel.ParcelId.in_([202, 203]))
            .order_by("ParcelId")
        ).all()
        return {"found": found, "count": session.scalar(many), "heavy": list(heavy), "ids": list(ids)}


def statements(engine: Any) -> Any:
    """The expression language, RETURNING, text with parameters, a rollback."""
    with engine.begin() as connection:
        connection.execute(delete(Parcel).where(Parcel.ParcelId.between(210, 219)))
        connection.execute(insert(Parcel), [{"ParcelId": 210, "Sender": "a"}, {"ParcelId": 211, "Sender": "b"}])
        returned = connection.execute(
            update(Parcel).where(Parcel.ParcelId == 210).values(Sender="c").returning(Parcel.ParcelId, Parcel.Sender)
        ).all()
        typed = connection.execute(text("SELECT Sender FROM Parcels WHERE ParcelId = :id"), {"id": 211}).scalar()
    with engine.connect() as connection:
        connection.execute(delete(Parcel))
        connection.rollback()
        left = connection.scalar(select(func.count()).where(Parcel.ParcelId.between(210, 219)))
    return {"returned": [list(row) for row in returned], "typed": typed, "left": left}


def read_only(engine: Any) -> Any:
    """Read-only and stale transactions, priority and tag, by execution options; autocommit."""
    with engine.connect().execution_options(read_only=True) as connection:
        fresh = connection.scalar(select(func.count()).where(Parcel.ParcelId == 210))
    stale = {"read_only": True, "staleness": {"exact_staleness": datetime.timedelta(0)}, "request_tag": "desk"}
    with engine.connect().execution_options(**stale) as connection:
        old = connection.scalar(select(Parcel.Sender).where(Parcel.ParcelId == 210))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(update(Parcel).where(Parcel.ParcelId == 210).values(Sender="d"))
        new = connection.scalar(select(Parcel.Sender).where(Parcel.ParcelId == 210))
    return [fresh, old, new]


def denied(engine: Any) -> Any:
    """What a program meets that may not do it."""

    def told(work: Any) -> Any:
        started = time.monotonic()
        try:
            with Session(engine) as session:
                answered = work(session)
                session.commit()
                return {"answered": str(answered)}
        except (GoogleAPICallError, DBAPIError) as error:
            seconds = time.monotonic() - started
            return {"kind": type(error).__name__, "message": str(error), "seconds": seconds}

    with Session(engine) as session:
        allowed = session.scalars(select(Parcel.Sender).where(Parcel.ParcelId == -1)).all()
    return {
        "allowed": list(allowed),
        "query": told(lambda session: session.scalars(select(Parcel)).all()),
        "insert": told(lambda session: session.add(Parcel(ParcelId=299))),
        "delete": told(lambda session: session.execute(delete(Entry))),
    }


CASES = {case.__name__: case for case in (objects, statements, read_only, denied)}


def main() -> int:
    engine = create_engine(URL)
    failed = 0
    for name in sys.argv[1:]:
        try:
            print(json.dumps({"case": name, "found": CASES[name](engine)}), flush=True)
        except (GoogleAPICallError, DBAPIError) as error:
            print(json.dumps({"case": name, "error": str(error)}), flush=True)
            failed = 1
    engine.dispose()
    return failed


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The client's own maintenance thread sleeps for ten minutes at a time.
    os._exit(code)
