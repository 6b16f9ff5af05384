package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func temporary(t *testing.T) *volumes {
	t.Helper()
	v, err := openVolumes(filepath.Join(t.TempDir(), "volumes"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.close)
	return v
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestNamesAreSafeAndUnique(t *testing.T) {
	if name := nameOf("default", "data-mysql-0", "pvc-1"); name != "default_data-mysql-0_pvc-1" {
		t.Error(name)
	}
	for _, bad := range []string{"../../etc", "/", "a/b", "..", "a\x00b", "ü_x"} {
		name := nameOf(bad, bad, bad)
		if strings.ContainsAny(name, "/\x00") || strings.Count(name, "_") != 2 || name == "." || name == ".." {
			t.Errorf("%q: %q", bad, name)
		}
	}
	long := strings.Repeat("x", 253)
	one, two := nameOf(strings.Repeat("n", 63), long, "pvc-"+strings.Repeat("1", 36)), nameOf(strings.Repeat("n", 63), long, "pvc-"+strings.Repeat("2", 36))
	if len(one) != longestName || one == two || !strings.HasSuffix(one, "_pvc-"+strings.Repeat("1", 36)) {
		t.Errorf("%d bytes: %q and %q", len(one), one, two)
	}
}

func TestEveryUserMayWriteWhateverTheUmask(t *testing.T) {
	v := temporary(t)
	defer syscall.Umask(syscall.Umask(0o077))
	for range 2 { // the second finds it there
		path, err := v.make("ns_claim_pv")
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o777 {
			t.Error(info.Mode(), err)
		}
	}
}

func TestALinkInPlaceOfADirectoryIsRefused(t *testing.T) {
	v, outside := temporary(t), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(v.path, "ns_claim_pv")); err != nil {
		t.Fatal(err)
	}
	if path, err := v.make("ns_claim_pv"); err == nil || !strings.Contains(err.Error(), "is no directory") {
		t.Error(path, err)
	}
}

func TestRemovalDoesNotFollowLinks(t *testing.T) {
	v, outside := temporary(t), t.TempDir()
	precious := filepath.Join(outside, "precious")
	write(t, precious, "data")
	path, err := v.make("ns_claim_pv")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(path, "a/b"), "data")
	if err := os.Symlink(outside, filepath.Join(path, "a/link")); err != nil {
		t.Fatal(err)
	}
	// A removal that was cut short has left something under the same name.
	write(t, filepath.Join(v.path, deletedPrefix+"pv/x"), "data")
	for range 2 { // the second finds nothing to do
		if err := v.remove(path, "pv"); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(v.path)
	if err != nil || len(left) != 0 || !exists(precious) {
		t.Error(left, err)
	}

	// The volume's own directory replaced by a link: the link goes, its target stays.
	if err := os.Symlink(outside, path); err != nil {
		t.Fatal(err)
	}
	if err := v.remove(path, "pv"); err != nil || exists(path) || !exists(precious) {
		t.Error(err)
	}
}

func TestOnlyAVolumesOwnDirectoryIsRemoved(t *testing.T) {
	v := temporary(t)
	write(t, filepath.Join(v.path, "ns_claim_other/file"), "data")
	write(t, filepath.Join(filepath.Dir(v.path), "ns_claim_pv/file"), "data")
	for _, path := range []string{
		"/", "", "/etc", v.path, v.path + "/", v.path + "/..", v.path + "/../ns_claim_pv",
		v.path + "/ns_claim_other", v.path + "/ns_claim_other/../x_pv", v.path + "/ns_claim_other/file_pv",
		v.path + "/.x_pv", "ns_claim_pv", filepath.Dir(v.path) + "/ns_claim_pv",
	} {
		if err := v.remove(path, "pv"); err == nil {
			t.Errorf("%q was not refused", path)
		}
	}
	if !exists(filepath.Join(v.path, "ns_claim_other/file")) || !exists(filepath.Join(filepath.Dir(v.path), "ns_claim_pv/file")) {
		t.Error("something was removed")
	}
}

func TestASweepRemovesOnlyWhatIsHalfRemoved(t *testing.T) {
	v := temporary(t)
	write(t, filepath.Join(v.path, deletedPrefix+"pv/x"), "data")
	write(t, filepath.Join(v.path, "ns_claim_pv/x"), "data")
	if err := v.sweep(); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(v.path, deletedPrefix+"pv")) || !exists(filepath.Join(v.path, "ns_claim_pv/x")) {
		t.Error("swept wrongly")
	}
}

func TestARootMustBeAFolderOfItsOwn(t *testing.T) {
	for _, path := range []string{"", "/", "relative", "/x/.."} {
		if v, err := openVolumes(path); err == nil {
			t.Errorf("%q: %v", path, v)
		}
	}
}
