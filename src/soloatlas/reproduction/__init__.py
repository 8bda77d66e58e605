"""The papers' tables as data, and the command that runs them."""

from soloatlas.reproduction.rows import Row as Row
from soloatlas.reproduction.rows import Table as Table
from soloatlas.reproduction.table_run import reproduce_table as reproduce_table
from soloatlas.reproduction.tables import TABLES as TABLES
