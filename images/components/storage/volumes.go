package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// longestName is the longest file name that Linux takes.
const longestName = 255

// deletedPrefix marks what is being removed. No volume begins so: namespaces have no dots.
const deletedPrefix = ".deleted-"

// volumes is the folder that the volumes are in. All access goes through an os.Root, which never
// leaves the folder, whatever names and links say.
type volumes struct {
	path string
	root *os.Root
}

func openVolumes(path string) (*volumes, error) {
	path = filepath.Clean(path)
	if !filepath.IsAbs(path) || path == "/" {
		return nil, fmt.Errorf("--root: %q must be an absolute path to a folder of its own", path)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("--root: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("--root: %w", err)
	}
	return &volumes{path: path, root: root}, nil
}

func (v *volumes) close() { _ = v.root.Close() }

// size is the size of the whole file system that the volumes are in, in bytes.
func (v *volumes) size() (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(v.path, &s); err != nil {
		return 0, fmt.Errorf("cannot tell the size of the disk at %s: %w", v.path, err)
	}
	return s.Blocks * uint64(s.Frsize), nil
}

// nameOf is the name of a volume's directory. The volume's name makes it unique; namespace and
// claim are there for people, and the claim is cut where the name would get too long.
func nameOf(namespace, claim, volume string) string {
	namespace, claim, volume = clean(namespace), clean(claim), clean(volume)
	if most := longestName - len(namespace) - len(volume) - 2; len(claim) > most {
		claim = claim[:max(most, 0)]
	}
	return namespace + "_" + claim + "_" + volume
}

// clean leaves what names in Kubernetes are made of, and nothing that a path could make use of.
func clean(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, name)
}

// make makes a volume's directory and answers with its path. Every user may write to it: pods
// seldom run as root, and fsGroup is not always set. One that an earlier attempt made will do.
func (v *volumes) make(name string) (string, error) {
	path := filepath.Join(v.path, name)
	err := v.root.Mkdir(name, 0o777)
	if errors.Is(err, fs.ErrExist) {
		var info fs.FileInfo
		if info, err = v.root.Lstat(name); err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is there and is no directory", path)
		}
	}
	if err == nil {
		// Not by Mkdir: the umask takes bits away from what that is told.
		err = v.root.Chmod(name, 0o777)
	}
	if err != nil {
		return "", fmt.Errorf("cannot make the volume's directory: %w", err)
	}
	return path, nil
}

// remove removes the directory at path, which must be the one of this volume. One that is gone is
// fine. It is renamed first, so that a half-removed volume is never taken for a whole one.
func (v *volumes) remove(path, volume string) error {
	name := filepath.Base(path)
	if path != filepath.Join(v.path, name) || strings.HasPrefix(name, ".") || !strings.HasSuffix(name, "_"+clean(volume)) {
		return fmt.Errorf("%q is not removed: it is not the directory of the volume %s in %s", path, volume, v.path)
	}
	deleted := deletedPrefix + clean(volume)
	err := v.root.RemoveAll(deleted) // of an earlier attempt: a rename needs the name free
	if err == nil {
		err = v.root.Rename(name, deleted)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the volume's directory: %w", err)
	}
	if err := v.root.RemoveAll(deleted); err != nil {
		return fmt.Errorf("cannot remove the volume's directory: %w", err)
	}
	return nil
}

// sweep removes what a run left behind that ended in the middle of a removal.
func (v *volumes) sweep() error {
	entries, err := fs.ReadDir(v.root.FS(), ".")
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), deletedPrefix) {
			err = errors.Join(err, v.root.RemoveAll(entry.Name()))
		}
	}
	return err
}
