"""How the tables of the history change from one version of Aisle to the next, as Alembic runs it."""
