#!/bin/bash
# Makes the database cluster if there is none, then is Postgres.
set -eu

if [ "$(id -u)" = 0 ]; then
    install -d -m 0700 -o postgres -g postgres "$PGDATA"
    install -d -m 0775 -o postgres -g postgres /run/postgresql
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi

# value NAME DEFAULT: the variable, or what is in the file that NAME_FILE names.
value() {
    local file="$1_FILE"
    if [ -n "${!file:-}" ]; then cat "${!file}"; else printf '%s' "${!1:-$2}"; fi
}

if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=$(value POSTGRES_USER postgres)
    password=$(value POSTGRES_PASSWORD '')
    database=$(value POSTGRES_DB "$user")
    if [ -z "$password" ]; then
        echo 'POSTGRES_PASSWORD is empty: give the superuser a password' >&2
        exit 1
    fi
    # Made beside and renamed into place, so that a container killed now begins anew at its next start.
    rm -rf "$PGDATA/new"
    initdb --pgdata="$PGDATA/new" --username="$user" --pwfile=<(printf '%s\n' "$password") \
        --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >> "$PGDATA/new/pg_hba.conf"
    echo "listen_addresses = '*'" >> "$PGDATA/new/postgresql.conf"
    if [ "$database" != postgres ]; then
        printf 'CREATE DATABASE "%s";\n' "${database//\"/\"\"}" \
            | postgres --single -jE -D "$PGDATA/new" postgres >/dev/null
    fi
    # PG_VERSION last: it says that the cluster is whole.
    find "$PGDATA/new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
    mv "$PGDATA/new/PG_VERSION" "$PGDATA" && rmdir "$PGDATA/new"
fi

unset POSTGRES_PASSWORD
exec "$@"
