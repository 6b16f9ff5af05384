// Command seed makes a folder as containerd keeps one in /var/lib/containerd, with images unpacked
// in it, so that a node need not import them. It needs no privileges: it takes only images whose
// files are plain and root's, and leaves out others, which the node then imports as any image.
package main

import (
	"archive/tar"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// errNotPlain is wrapped by the reasons for which an image is left out.
var errNotPlain = errors.New("not a plain image")

const (
	snapshotter = "overlayfs"
	// The folders are those of containerd's plugins.
	contentDir  = "io.containerd.content.v1.content"
	metadataDir = "io.containerd.metadata.v1.bolt"
	snapshotDir = "io.containerd.snapshotter.v1.overlayfs"
)

func main() {
	out := flag.String("out", "", "the folder to make")
	sandbox := flag.String("sandbox", "", "the image that pods' sandboxes run")
	flag.Parse()
	// Folders in an image have the modes that it says.
	syscall.Umask(0)
	if err := run(*out, *sandbox, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "seed:", err)
		os.Exit(1)
	}
}

// store is a containerd without its daemon.
type store struct {
	db        *metadata.DB
	content   content.Store
	snapshots snapshots.Snapshotter
	images    images.Store
	sandbox   string
}

func run(out, sandbox string, archives []string) error {
	ctx := namespaces.WithNamespace(context.Background(), "k8s.io")
	for _, dir := range []string{contentDir, metadataDir, snapshotDir} {
		if err := os.MkdirAll(filepath.Join(out, dir), 0o755); err != nil {
			return err
		}
	}
	blobs, err := local.NewStore(filepath.Join(out, contentDir))
	if err != nil {
		return err
	}
	layers, err := overlay.NewSnapshotter(filepath.Join(out, snapshotDir))
	if err != nil {
		return err
	}
	defer layers.Close()
	file, err := bolt.Open(filepath.Join(out, metadataDir, "meta.db"), 0o644, nil)
	if err != nil {
		return err
	}
	defer file.Close()
	db := metadata.NewDB(file, blobs, map[string]snapshots.Snapshotter{snapshotter: layers})
	if err := db.Init(ctx); err != nil {
		return err
	}
	s := store{
		db:        db,
		content:   db.ContentStore(),
		snapshots: db.Snapshotter(snapshotter),
		images:    metadata.NewImageStore(db),
		sandbox:   sandbox,
	}
	names := ""
	for _, name := range archives {
		added, err := s.add(ctx, name)
		switch {
		case errors.Is(err, errNotPlain):
			fmt.Fprintf(os.Stderr, "seed: %s is left out: %v\n", name, err)
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		default:
			names += added + "\n"
		}
	}
	// What no image needs, such as archives' indexes and images that were left out half-way.
	if _, err := db.GarbageCollect(ctx); err != nil {
		return err
	}
	// The last thing: where it is, the folder is whole.
	return os.WriteFile(filepath.Join(out, "images"), []byte(names), 0o644)
}

// add imports and unpacks the one image of an archive and answers with its name.
func (s *store) add(ctx context.Context, path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	index, err := archive.ImportIndex(ctx, s.content, file)
	if err != nil {
		return "", err
	}
	tops, err := images.Children(ctx, s.content, index)
	if err != nil {
		return "", err
	}
	if len(tops) != 1 || tops[0].Annotations[images.AnnotationImageName] == "" {
		return "", fmt.Errorf("%w: the archive has %d images, or one without a name", errNotPlain, len(tops))
	}
	target := tops[0]
	name := target.Annotations[images.AnnotationImageName]
	platform := platforms.Default()
	handler := images.SetChildrenLabels(s.content, images.ChildrenHandler(s.content))
	if err := images.WalkNotEmpty(ctx, handler, target); err != nil {
		return "", err
	}
	manifest, err := images.Manifest(ctx, s.content, target, platform)
	if err != nil {
		return "", err
	}
	diffs, err := images.RootFS(ctx, s.content, manifest.Config)
	if err != nil {
		return "", err
	}
	if len(diffs) != len(manifest.Layers) {
		return "", fmt.Errorf("%d layers but %d differences", len(manifest.Layers), len(diffs))
	}
	for n, layer := range manifest.Layers {
		if err := s.unpack(ctx, layer, diffs[:n+1], name == s.sandbox); err != nil {
			return "", err
		}
		if err := s.label(ctx, layer.Digest, "containerd.io/uncompressed", diffs[n].String()); err != nil {
			return "", err
		}
	}
	chain := identity.ChainID(diffs).String()
	if err := s.label(ctx, manifest.Config.Digest, "containerd.io/gc.ref.snapshot."+snapshotter, chain); err != nil {
		return "", err
	}
	// As containerd's CRI plugin has them: each image by its name and by its identifier.
	labels := map[string]string{"io.cri-containerd.image": "managed"}
	if name == s.sandbox {
		labels["io.cri-containerd.pinned"] = "pinned"
	}
	for _, name := range []string{name, manifest.Config.Digest.String()} {
		if _, err := s.images.Create(ctx, images.Image{Name: name, Target: target, Labels: labels}); err != nil {
			return "", err
		}
	}
	return name, nil
}

func (s *store) label(ctx context.Context, blob digest.Digest, key, value string) error {
	info := content.Info{Digest: blob, Labels: map[string]string{key: value}}
	_, err := s.content.Update(ctx, info, "labels."+key)
	return err
}

// unpack makes the snapshot of the last of `diffs` out of its layer. The file `copy` beside a
// snapshot says that a node needs files of its own, and no link: containerd maps the owners of an
// image's files for a pod with users of its own, which a link to another file system evades, and
// such a pod has a sandbox too.
func (s *store) unpack(ctx context.Context, layer ocispec.Descriptor, diffs []digest.Digest, sandbox bool) error {
	chain := identity.ChainID(diffs).String()
	if _, err := s.snapshots.Stat(ctx, chain); err == nil {
		return nil
	}
	parent := ""
	if len(diffs) > 1 {
		parent = identity.ChainID(diffs[:len(diffs)-1]).String()
	}
	key := "extract " + chain
	mounts, err := s.snapshots.Prepare(ctx, key, parent)
	if err != nil {
		return err
	}
	into, err := upper(mounts)
	if err != nil {
		return err
	}
	if sandbox {
		if err := os.WriteFile(filepath.Join(filepath.Dir(into), "copy"), nil, 0o644); err != nil {
			return err
		}
	}
	blob, err := s.content.ReaderAt(ctx, layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	stream, err := compression.DecompressStream(content.NewReader(blob))
	if err != nil {
		return err
	}
	defer stream.Close()
	digester := digest.Canonical.Digester()
	tee := io.TeeReader(stream, digester.Hash())
	if err := extract(tee, into); err != nil {
		return err
	}
	// Whatever follows the archive's end belongs to the digest too.
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	if want := diffs[len(diffs)-1]; digester.Digest() != want {
		return fmt.Errorf("the layer %s unpacks to %s, not to %s", layer.Digest, digester.Digest(), want)
	}
	return s.snapshots.Commit(ctx, chain, key)
}

// upper is the folder that a snapshot's own files are in.
func upper(mounts []mount.Mount) (string, error) {
	if len(mounts) != 1 {
		return "", fmt.Errorf("a snapshot of %d mounts", len(mounts))
	}
	for _, option := range mounts[0].Options {
		if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
			return dir, nil
		}
	}
	return mounts[0].Source, nil
}

// extract unpacks an archive of plain files, folders and links, all of them root's.
func extract(from io.Reader, into string) error {
	root, err := os.OpenRoot(into)
	if err != nil {
		return err
	}
	defer root.Close()
	reader := tar.NewReader(from)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if why := special(header); why != "" {
			return fmt.Errorf("%w: %s %s", errNotPlain, header.Name, why)
		}
		if err := place(root, header, reader); err != nil {
			return fmt.Errorf("%w: %s: %v", errNotPlain, header.Name, err)
		}
	}
}

// special says what only root could bring about, or only a layer's meaning tells.
func special(header *tar.Header) string {
	switch {
	case header.Uid != 0 || header.Gid != 0:
		return "is not root's"
	case !usual(header):
		return "has permissions of its own"
	case strings.HasPrefix(filepath.Base(header.Name), ".wh."):
		return "removes something of a layer below"
	}
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			return "has extended attributes"
		}
	}
	return ""
}

// usual tells whether the volume that this goes into keeps the permissions as they are.
func usual(header *tar.Header) bool {
	switch header.Typeflag {
	case tar.TypeReg:
		return header.Mode&0o7777 == 0o644 || header.Mode&0o7777 == 0o755
	case tar.TypeDir:
		return header.Mode&0o7777 == 0o755
	default:
		return true
	}
}

// place makes one thing of an archive. Folders that the archive does not name are not made up:
// what they are like is for the layers below to say.
func place(root *os.Root, header *tar.Header, content io.Reader) error {
	name := filepath.Clean(strings.TrimPrefix(header.Name, "/"))
	mode := os.FileMode(header.Mode).Perm()
	switch header.Typeflag {
	case tar.TypeDir:
		if name == "." {
			return nil
		}
		if err := root.Mkdir(name, mode); err != nil && !os.IsExist(err) {
			return err
		}
		return root.Chmod(name, mode)
	case tar.TypeReg:
		file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		defer file.Close()
		if _, err := io.Copy(file, content); err != nil {
			return err
		}
		return file.Close()
	case tar.TypeSymlink:
		return root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		return root.Link(filepath.Clean(strings.TrimPrefix(header.Linkname, "/")), name)
	default:
		return fmt.Errorf("is of kind %q", header.Typeflag)
	}
}
