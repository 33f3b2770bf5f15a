#!/bin/sh
# Creates or upgrades Temporal's two schemas; safe to repeat. Runs in the image temporalio/admin-tools, before the server.
# The database server is named by SQL_HOST, SQL_PORT, SQL_USER and SQL_PLUGIN, as temporal-sql-tool reads them.
set -eu
SQL_PASSWORD="$(cat "${POSTGRES_PASSWORD_FILE:-/run/secrets/postgres_password}")"
export SQL_PASSWORD
for part in temporal visibility; do
    database=temporal
    [ "$part" = temporal ] || database=temporal_visibility
    temporal-sql-tool --database "$database" setup-schema --version 0.0 # does nothing where there is a newer version
    temporal-sql-tool --database "$database" update-schema --schema-dir "${SCHEMA:-/etc/temporal/schema}/postgresql/v12/$part/versioned"
done
