#!/bin/sh
# Runs in the node, from the read-only volume in /opt/yardstick: what kubeadm's guide has done
# before `kubeadm init`, and the images, side by side as kubby imports its own.
set -eu
volume=/opt/yardstick
ln -sf $volume/bin/kubelet $volume/bin/kubeadm /usr/bin/
# One program that has two names.
ln -sf $volume/bin/containerd /usr/local/bin/ctr
cp $volume/kubelet.service $volume/containerd.service /etc/systemd/system/
mkdir -p /etc/cni/net.d /etc/kubernetes/manifests /etc/containerd /opt/cni/bin
cp $volume/10-bridge.conflist /etc/cni/net.d/
cp $volume/containerd.toml /etc/containerd/config.toml
for plugin in bridge host-local loopback portmap; do
    ln -sf $volume/bin/cni /opt/cni/bin/$plugin
done
modprobe --all overlay br_netfilter
sysctl -qw net.ipv4.ip_forward=1
systemctl daemon-reload
systemctl start containerd
running=
for archive in "$volume"/images/*.tar; do
    { ctr --namespace k8s.io images import --local "$archive" 2>/dev/null ||
        ctr --namespace k8s.io images import "$archive"; } >/dev/null &
    running="$running $!"
done
for job in $running; do
    wait "$job"
done
