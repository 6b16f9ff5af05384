#!/bin/bash
# What the image mysql:5.7 promises: `mysqld` (the default) makes a database in /var/lib/mysql out
# of MYSQL_ROOT_PASSWORD, MYSQL_DATABASE, MYSQL_USER and MYSQL_PASSWORD where there is none, and
# serves it on port 3306; anything else is run as it is.
set -euo pipefail

if [ "${1:-}" != mysqld ]; then
    exec "$@"
fi
data=/var/lib/mysql
: "${MYSQL_ROOT_PASSWORD:?set MYSQL_ROOT_PASSWORD}"

# A text as an SQL literal.
literal() { printf "'%s'" "$(printf %s "$1" | sed -e 's/\\/\\\\/g' -e "s/'/''/g")"; }

mkdir -p /run/mysqld "$data"
chown mysql:mysql /run/mysqld "$data"
options=(--no-defaults --user=mysql --datadir="$data" --socket=/run/mysqld/mysqld.sock
    --innodb-log-file-size=16M --innodb-buffer-pool-size=64M)
if [ ! -e "$data/.made" ]; then
    echo "making the database in $data"
    # What an interrupted attempt left.
    find "$data" -mindepth 1 -delete
    # A server that bootstraps takes one statement a line.
    {
        echo 'CREATE DATABASE mysql;'
        echo 'USE mysql;'
        echo 'SET @auth_root_socket = NULL;'
        cat /usr/share/mariadb/mariadb_system_tables.sql /usr/share/mariadb/mariadb_performance_tables.sql \
            /usr/share/mariadb/mariadb_system_tables_data.sql
        echo 'FLUSH PRIVILEGES;'
        echo "CREATE OR REPLACE USER root@localhost IDENTIFIED BY $(literal "$MYSQL_ROOT_PASSWORD");"
        echo "CREATE OR REPLACE USER root@'%' IDENTIFIED BY $(literal "$MYSQL_ROOT_PASSWORD");"
        echo 'GRANT ALL ON *.* TO root@localhost WITH GRANT OPTION;'
        echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
        if [ -n "${MYSQL_DATABASE:-}" ]; then
            echo "CREATE DATABASE \`$MYSQL_DATABASE\`;"
        fi
        if [ -n "${MYSQL_USER:-}" ]; then
            echo "CREATE USER $(literal "$MYSQL_USER")@'%' IDENTIFIED BY $(literal "${MYSQL_PASSWORD:-}");"
            if [ -n "${MYSQL_DATABASE:-}" ]; then
                echo "GRANT ALL ON \`$MYSQL_DATABASE\`.* TO $(literal "$MYSQL_USER")@'%';"
            fi
        fi
    } | mariadbd "${options[@]}" --bootstrap
    touch "$data/.made"
    echo "the database is made"
fi
exec mariadbd "${options[@]}" --bind-address=0.0.0.0 --port=3306
