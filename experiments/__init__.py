"""Which runs make a table: one file per table, without any hyper-parameter but a swept one."""
