#!/bin/bash
# Builds the file system of a stand-in for the image mysql:5.7: `build.sh OUTPUT.tar`.
#
# The chapter's image cannot be pulled on every network. This one keeps the same contract with
# MariaDB from Debian's packages: see entrypoint.sh.
#
# KUBBY_DEBIAN_MIRROR names another mirror than this host's apt uses.
set -euo pipefail
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "$0")" && pwd)

# The host's mirror of the distribution with the label Debian.
# shellcheck disable=SC2016 # the format is apt's, not the shell's
mirror=${KUBBY_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" { sub("/$", "", $2); print $2; exit }')}
mirror=${mirror:-http://deb.debian.org/debian}
mode=unshare
[ "$(id -u)" != 0 ] || mode=root
isolated=()
if [ $mode = root ] && unshare --mount true 2>/dev/null; then isolated=(unshare --mount); fi

# Debian's packages of the programs alone: no service, no set-up at installation. What the image
# does without is left out before it is unpacked: it would go over the wire into the node.
# shellcheck disable=SC2016 # $1 is the root directory, which mmdebstrap gives to the hooks
"${isolated[@]}" mmdebstrap --mode="$mode" --variant=minbase --format=tar \
    --include=mariadb-server-core,mariadb-client-core \
    --aptopt='APT::Install-Recommends "false"' \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/zoneinfo/*' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/*' \
    --customize-hook='chroot "$1" useradd --system --uid 999 --home /var/lib/mysql --shell /bin/false mysql' \
    --customize-hook='ln -sf mariadb "$1"/usr/bin/mysql; ln -sf mariadbd "$1"/usr/sbin/mysqld' \
    --customize-hook="copy-in $here/entrypoint.sh /usr/local/bin" \
    --customize-hook='chmod 755 "$1"/usr/local/bin/entrypoint.sh' \
    trixie "$1" "deb $mirror trixie main"
