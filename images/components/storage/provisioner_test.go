package main

import (
	"context"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const gib = 1 << 30

func class() *storage.StorageClass {
	mode := storage.VolumeBindingWaitForFirstConsumer
	return &storage.StorageClass{
		ObjectMeta:        metav1.ObjectMeta{Name: "standard"},
		Provisioner:       "kubby.dev/storage",
		VolumeBindingMode: &mode,
	}
}

func claim(name, size, node string) *v1.PersistentVolumeClaim {
	standard := "standard"
	return &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID(name),
			Annotations: map[string]string{selectedNode: node, "volume.kubernetes.io/storage-provisioner": "kubby.dev/storage"},
		},
		Spec: v1.PersistentVolumeClaimSpec{
			StorageClassName: &standard,
			AccessModes:      []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			Resources:        v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}},
		},
	}
}

func options(c *v1.PersistentVolumeClaim) controller.ProvisionOptions {
	return controller.ProvisionOptions{StorageClass: class(), PVName: "pvc-" + c.Name, PVC: c}
}

func TestAClaimThatFitsIsServedInEveryAccessMode(t *testing.T) {
	for _, mode := range []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce, v1.ReadWriteOncePod, v1.ReadWriteMany, v1.ReadOnlyMany} {
		c := claim("c", "1Gi", "n")
		c.Spec.AccessModes = []v1.PersistentVolumeAccessMode{mode}
		if err := refuse(options(c), gib); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

func TestARefusalSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	block := v1.PersistentVolumeBlock
	for name, test := range map[string]struct {
		change func(*controller.ProvisionOptions)
		words  []string
	}{
		"size": {
			func(o *controller.ProvisionOptions) {
				o.PVC.Spec.Resources.Requests[v1.ResourceStorage] = resource.MustParse("5Gi")
			},
			[]string{"wants 5Gi", "disk has 1.0Gi", "claim less", "--disk"},
		},
		"one byte": {
			func(o *controller.ProvisionOptions) {
				o.PVC.Spec.Resources.Requests[v1.ResourceStorage] = resource.MustParse("1073741825")
			},
			[]string{"wants 1073741825", "disk has 1.0Gi"},
		},
		"no int64 holds it": {
			func(o *controller.ProvisionOptions) {
				o.PVC.Spec.Resources.Requests[v1.ResourceStorage] = resource.MustParse("1000000Ei")
			},
			[]string{"disk has 1.0Gi"},
		},
		"block": {func(o *controller.ProvisionOptions) { o.PVC.Spec.VolumeMode = &block }, []string{"Block", "use volumeMode Filesystem"}},
		"selector": {
			func(o *controller.ProvisionOptions) { o.PVC.Spec.Selector = &metav1.LabelSelector{} },
			[]string{"selector", "remove"},
		},
		"source": {
			func(o *controller.ProvisionOptions) {
				o.PVC.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "x"}
			},
			[]string{"always empty", "remove dataSource"},
		},
		"parameters": {
			func(o *controller.ProvisionOptions) {
				o.StorageClass.Parameters = map[string]string{"type": "ssd", "fs": "xfs"}
			},
			[]string{"standard", "(fs, type)", "remove"},
		},
	} {
		o := options(claim("c", "1Gi", "n"))
		test.change(&o)
		err := refuse(o, gib)
		for _, word := range test.words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: no %q in %v", name, word, err)
			}
		}
	}
}

func TestOthersClaimsAndVolumesAreLeftAlone(t *testing.T) {
	p := provisioner{node: "kubby"}
	ctx := context.Background()
	for node, is := range map[string]bool{"kubby": true, "kubby-2": false, "": false} {
		if p.ShouldProvision(ctx, claim("c", "1Gi", node)) != is {
			t.Errorf("claim of %q", node)
		}
		other := provisioner{node: node}
		volume := other.describe(options(claim("c", "1Gi", node)), "/x")
		if p.ShouldDelete(ctx, volume) != is {
			t.Errorf("volume of %q", node)
		}
	}
	if p.ShouldProvision(ctx, &v1.PersistentVolumeClaim{}) || p.ShouldDelete(ctx, &v1.PersistentVolume{}) {
		t.Error("taken though of no node")
	}
}

// waitFor polls, since the controller works on its own time.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("timed out: ", what)
		}
	}
}

func TestTheControllerMakesAndRemovesVolumes(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	v := temporary(t)
	client := fake.NewClientset(class(), claim("fits", "1Mi", "kubby"), claim("big", "1000Ti", "kubby"), claim("elsewhere", "1Mi", "kubby-2"))
	go controller.NewProvisionController(ctx, client, "kubby.dev/storage", &provisioner{node: "kubby", volumes: v},
		controller.LeaderElection(false)).Run(ctx)

	core := client.CoreV1()
	var pv *v1.PersistentVolume
	waitFor(t, "a volume for the claim that fits", func() bool {
		var err error
		pv, err = core.PersistentVolumes().Get(ctx, "pvc-fits", metav1.GetOptions{})
		return err == nil
	})
	path := filepath.Join(v.path, "default_fits_pvc-fits")
	if pv.Spec.Local.Path != path || nodeOf(pv) != "kubby" || pv.Spec.ClaimRef.Name != "fits" || pv.Spec.HostPath != nil ||
		pv.Spec.PersistentVolumeReclaimPolicy != v1.PersistentVolumeReclaimDelete {
		t.Errorf("%+v", pv.Spec)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o777 {
		t.Error(info, err)
	}
	waitFor(t, "an event about the claim that is too big", func() bool {
		events, err := core.Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == "big" && e.Reason == "ProvisioningFailed" && strings.Contains(e.Message, "wants 1000Ti") {
				return true
			}
		}
		return false
	})

	pv.Status.Phase = v1.VolumeReleased
	if _, err := core.PersistentVolumes().Update(ctx, pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the released volume to go", func() bool {
		_, err := core.PersistentVolumes().Get(ctx, "pvc-fits", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	left, err := os.ReadDir(v.path)
	if err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}

func TestFlags(t *testing.T) {
	node := func(string) string { return "from-env" }
	none := func(string) string { return "" }
	if o, err := parse(nil, node); err != nil || o.node != "from-env" || o.root != "/var/lib/kubby/volumes" || o.provisioner != "kubby.dev/storage" {
		t.Error(o, err)
	}
	if o, err := parse([]string{"--node-name=flag"}, node); err != nil || o.node != "flag" {
		t.Error(o, err)
	}
	if _, err := parse(nil, none); err == nil || !strings.Contains(err.Error(), "NODE_NAME") {
		t.Error(err)
	}
	if _, err := parse([]string{"x"}, node); err == nil {
		t.Error("an argument was taken")
	}
	if _, err := parse([]string{"-h"}, node); err != flag.ErrHelp {
		t.Error(err)
	}
}

func TestHealthFollowsTheFolder(t *testing.T) {
	v := temporary(t)
	for _, want := range []int{200, 500} {
		answer := httptest.NewRecorder()
		healthHandler(v).ServeHTTP(answer, httptest.NewRequest("GET", "/healthz", nil))
		if answer.Code != want {
			t.Error(answer.Code, answer.Body)
		}
		if err := os.RemoveAll(v.path); err != nil {
			t.Fatal(err)
		}
	}
}
