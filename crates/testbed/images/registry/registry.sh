#!/bin/sh
# Is the registry. With a file `login` (user and password, a line each) it asks for that login.
set -eu

login=/etc/docker/registry/login
if [ -s "$login" ]; then
    # Salt and cost of no strength: the password is thrown away with the registry.
    perl -e 'chomp(my ($user, $password) = <STDIN>);
        print "$user:", crypt($password, q{$2b$04$} . "." x 22), "\n"' < "$login" > /run/htpasswd
    export REGISTRY_AUTH=htpasswd REGISTRY_AUTH_HTPASSWD_REALM=testbed REGISTRY_AUTH_HTPASSWD_PATH=/run/htpasswd
fi
exec docker-registry serve /etc/docker/registry/config.yml
