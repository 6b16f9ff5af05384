# Runs inside the new system, after the packages are installed and root/ is laid over them:
# enables services, and removes files that nodes cannot share.
set -eu

# What a node starts by itself. haproxy waits for kubby, which configures it first.
systemctl enable kubby-seed kubby-modules kubby-clock ssh nftables systemd-networkd systemd-resolved
systemctl disable haproxy systemd-networkd-wait-online

# Helpers of mounts begin when they are asked for. AppArmor's own profiles are for programs that are not
# here; what is included by containerd's stays.
systemctl disable apparmor open-iscsi nfs-client.target rpcbind.service rpcbind.socket
find /etc/apparmor.d -mindepth 1 -maxdepth 1 \
    ! -name abi ! -name abstractions ! -name tunables -exec rm -r {} +
# Each node makes its own name when iscsid begins.
echo GenerateName=yes > /etc/iscsi/initiatorname.iscsi

# Not for a node: package updates and file system checks in the background would take the CPU from
# the cluster at times of their own, and some of these only cost time at boot.
systemctl mask \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
    e2scrub_all.timer e2scrub_reap.service \
    systemd-networkd-persistent-storage.service systemd-network-generator.service \
    systemd-pstore.service systemd-random-seed.service systemd-machine-id-commit.service \
    systemd-udev-load-credentials.service systemd-hibernate-clear.service \
    systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-pcrphase.service \
    systemd-pcrphase-sysinit.service systemd-pcrmachine.service \
    sys-kernel-config.mount modprobe@configfs.service modprobe@drm.service \
    getty@tty1.service console-getty.service

# Each generator is a program run before anything else: these look for disks, chips and consoles
# that the virtual machine does not have.
mkdir -p /etc/systemd/system-generators
for generator in rpc-pipefs nfs-server; do
    ln -sf /dev/null "/etc/systemd/system-generators/$generator-generator"
done
for generator in bless-boot cryptsetup debug gpt-auto hibernate-resume integritysetup rc-local \
    run ssh system-update tpm2 veritysetup; do
    ln -sf /dev/null "/etc/systemd/system-generators/systemd-$generator-generator"
done

# The kernel is started from outside the disk, so a newer one installed inside would only leave
# the running one without its modules.
apt-mark hold "linux-image-cloud-$(dpkg --print-architecture)" "linux-image-$(ls /lib/modules)" > /dev/null

# The initrd again, with the configuration from root/.
version=$(ls /lib/modules)
mktirfs -o "/boot/initrd.img-$version" "$version"

ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf

# Every node gets its own: keys with the seed, the machine's id at its first boot.
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret

# What the image's sources are is said in sources.list.d.
rm -f /etc/apt/sources.list
rm -rf /boot/*.old /vmlinuz* /initrd.img* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    /var/log/alternatives.log /var/log/bootstrap.log
mkdir -p /var/log/journal

# With these files, systemd regenerates nothing at the first boot.
touch /etc/.updated /var/.updated
