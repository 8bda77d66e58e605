"""The papers' tables and figures as data, and the command that runs them."""

from soloatlas.reproduction.figures import FIGURES as FIGURES
from soloatlas.reproduction.rows import Pictures as Pictures
from soloatlas.reproduction.rows import Row as Row
from soloatlas.reproduction.rows import Table as Table
from soloatlas.reproduction.table_run import reproduce_table as reproduce_table
from soloatlas.reproduction.tables import TABLES as TABLES
