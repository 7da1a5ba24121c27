"""The store: one database, one writer, and a module of named queries for each noun. peewee and apsw live here only."""
