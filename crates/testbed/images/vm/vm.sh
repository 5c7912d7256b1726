#!/bin/bash
# The first process of a throwaway VM: sshd, dockerd, and the registry under the name it has outside.
set -eu

# What a reboot would have cleared.
rm -rf /run/docker* /run/containerd /run/sshd /var/run/docker.pid
mkdir -p /run/sshd

# Control groups, for an engine inside a container. Version 2: no process may stay in the group that is
# divided. Version 1: each controller is mounted by itself.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mount -o remount,bind,rw /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 < /sys/fs/cgroup/cgroup.procs > /sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true
    sed -e 's/ / +/g' -e 's/^/+/' < /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
else
    for controller in /sys/fs/cgroup/*/; do
        mountpoint -q "$controller" && mount -o remount,bind,rw "$controller"
    done
fi
mount --make-rshared /

/usr/sbin/sshd -D -e &
# An image has one name on both sides: 127.0.0.1:PORT is the registry here too.
socat "TCP-LISTEN:$REGISTRY_PORT,bind=127.0.0.1,fork,reuseaddr" "TCP:registry:5000" &
dockerd --mtu "$(cat /sys/class/net/eth0/mtu)" --log-level warn &
dockerd=$!

# Off means off: dockerd stops the containers in good order, and starts them again at the next boot.
trap 'kill -TERM "$dockerd"; wait "$dockerd"; exit 0' TERM INT
# None of the three may be missing: without one the machine goes down, and the engine restarts it.
wait -n
exit 1
