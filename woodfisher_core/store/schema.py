"""The tables of a run store. A change here raises VERSION and comes with a migration from the version before."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

VERSION = 2
# "WdFi": tells our SQLite files from any other application's (PRAGMA application_id).
APPLICATION_ID = 0x57644669

metadata = MetaData()
# Weights of a layer, bytes of a file: PostgreSQL's integers end at 2³¹.
Count = BigInteger().with_variant(Integer, "sqlite")

# One row: the version of the schema.
about = Table("woodfisher_store", metadata, Column("version", Integer, nullable=False))

# What a result depends on, by the hash of it.
configs = Table(
    "configs",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("config", JSON, nullable=False),
)

environments = Table(
    "environments",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("environment", JSON, nullable=False),
)

# One run a config. Times are seconds since 1970, UTC; the columns after them are copies of what lists are filtered by.
runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", ForeignKey("configs.key"), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("error", Text),
    Column("origin", Text, nullable=False, default=""),
    Column("label", Text, nullable=False, default="", server_default=""),
    Column("created", Float, nullable=False),
    Column("seconds", Float),
    Column("environment", ForeignKey("environments.key")),
    Column("deleted", Float),
    Column("model", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("sparsity", Float),
    Column("accuracy", Float),
    Column("dense_accuracy", Float),
    Column("loss", Float),
)
Index("runs_by_time", runs.c.created)
Index("runs_by_method", runs.c.model, runs.c.method)

# Numbers of a run by name, along its steps: points of a curve, stages, epochs. NaN is NULL.
metrics = Table(
    "metrics",
    metadata,
    Column("run", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("sparsity", Float),
    Column("value", Float),
)

layers = Table(
    "layers",
    metadata,
    Column("run", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("layer", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("kept", Count, nullable=False),
    Column("total", Count, nullable=False),
)

timings = Table(
    "timings",
    metadata,
    Column("run", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("phase", Text, primary_key=True),
    Column("seconds", Float, nullable=False),
)

# Files of a run; their bytes lie in the folder of artefacts, named by their hash.
artefacts = Table(
    "artefacts",
    metadata,
    Column("run", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("bytes", Count, nullable=False),
)

# Long work that was asked for, once a request; ``total`` of its parts are known, ``done`` of them are done. ``owner`` is the
# process that runs it, ``heartbeat`` its last sign of life.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("origin", Text, nullable=False, default=""),
    Column("status", String(16), nullable=False),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("owner", String(200)),
    Column("heartbeat", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("cancel", Boolean, nullable=False, default=False),
    Column("done", Integer, nullable=False, default=0),
    Column("total", Integer, nullable=False, default=0),
    Column("message", Text, nullable=False, default=""),
    Column("error", Text),
)
Index("jobs_by_status", jobs.c.status, jobs.c.created)

# What a job has finished so far, in its own numbering: a sweep's points, a plane's cells, a schedule's epochs. ``key`` names
# the run where the part is one.
parts = Table(
    "parts",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("key", String(64)),
    Column("value", JSON, nullable=False),
    Column("error", Text),
    Column("created", Float, nullable=False),
)

# Who is computing what right now, so that nobody else begins it too.
claims = Table(
    "claims",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("heartbeat", Float, nullable=False),
)

# Tables that version 2 added.
NEW_IN_2 = (jobs, parts, claims)
# What belongs to a run alone, and goes with it.
OF_A_RUN = (metrics, layers, timings, artefacts)
