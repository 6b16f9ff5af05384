#!/bin/sh
# Runs in the node, from the read-only volume in /opt/yardstick: what kubeadm's guide has done
# before `kubeadm init`, and the images, side by side as kubby imports its own.
set -eu
volume=/opt/yardstick
ln -sf $volume/bin/kubelet $volume/bin/kubeadm /usr/bin/
cp $volume/kubelet.service /etc/systemd/system/
mkdir -p /etc/cni/net.d /etc/kubernetes/manifests
cp $volume/10-bridge.conflist /etc/cni/net.d/
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
