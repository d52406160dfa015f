"""The tables that one stage writes and another reads: their columns, and the check at every read.

One module a subject, so that another column of one table re-runs the stages that know it and no other.
`python -m bench.table_docs` writes docs/tables.md from them.
"""
