package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// The scheduler writes here which node a claim's first pod will run on.
const selectedNode = "volume.kubernetes.io/selected-node"

// provisioner makes and removes the volumes of one node.
type provisioner struct {
	node    string
	volumes *volumes
}

var (
	_ controller.Provisioner   = (*provisioner)(nil)
	_ controller.Qualifier     = (*provisioner)(nil)
	_ controller.DeletionGuard = (*provisioner)(nil)
)

// ShouldProvision tells whether the claim's pod will run on this node.
func (p *provisioner) ShouldProvision(_ context.Context, claim *v1.PersistentVolumeClaim) bool {
	return claim.Annotations[selectedNode] == p.node
}

// ShouldDelete tells whether the volume is on this node.
func (p *provisioner) ShouldDelete(_ context.Context, volume *v1.PersistentVolume) bool {
	return nodeOf(volume) == p.node
}

// Provision makes a directory for a claim. What fails is tried again after 15 seconds, then after
// twice as long each time.
func (p *provisioner) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	size, err := p.volumes.size()
	if err == nil {
		err = refuse(o, size)
	}
	var path string
	if err == nil {
		path, err = p.volumes.make(nameOf(o.PVC.Namespace, o.PVC.Name, o.PVName))
	}
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	klog.InfoS("Made", "volume", o.PVName, "claim", klog.KObj(o.PVC))
	return p.describe(o, path), controller.ProvisioningFinished, nil
}

// Delete removes a volume's directory.
func (p *provisioner) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if nodeOf(volume) != p.node {
		return &controller.IgnoredError{Reason: "the volume is on another node"}
	}
	if volume.Spec.Local == nil {
		return fmt.Errorf("the volume %s is not one of kubby-storage: it is not of the type local", volume.Name)
	}
	if err := p.volumes.remove(volume.Spec.Local.Path, volume.Name); err != nil {
		return err
	}
	klog.InfoS("Removed", "volume", volume.Name)
	return nil
}

// refuse says why a claim cannot be served from a disk of that many bytes; nil where it can.
//
// Every access mode can: the volume's node affinity brings all its pods to the one node where the
// directory is, so that several of them share it as ReadWriteMany says.
func refuse(o controller.ProvisionOptions, disk uint64) error {
	claim := o.PVC.Spec
	if claim.VolumeMode != nil && *claim.VolumeMode == v1.PersistentVolumeBlock {
		return fmt.Errorf("volumeMode Block is not supported: volumes are directories on the node's disk; use volumeMode Filesystem")
	}
	if claim.Selector != nil {
		return fmt.Errorf("the claim has a selector, but volumes are made for their claims and have no labels; remove the selector, or set storageClassName to \"\" to get a volume that is there already")
	}
	if claim.DataSource != nil || claim.DataSourceRef != nil {
		return fmt.Errorf("the claim has a data source, but new volumes are always empty; remove dataSource and copy the data with a pod")
	}
	if len(o.StorageClass.Parameters) > 0 {
		return fmt.Errorf("the storage class %s has parameters (%s), but there are none for this provisioner; remove them", o.StorageClass.Name, keys(o.StorageClass.Parameters))
	}
	wanted := claim.Resources.Requests[v1.ResourceStorage]
	if wanted.Cmp(*resource.NewQuantity(int64(disk), resource.BinarySI)) > 0 {
		return fmt.Errorf("the claim wants %s, but the node's whole disk has %.1fGi; claim less, or make the cluster anew with a larger disk (kubby start --disk)", wanted.String(), float64(disk)/(1<<30))
	}
	return nil
}

func keys(m map[string]string) string {
	var out []string
	for key := range m {
		out = append(out, key)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// describe is the volume at path as the cluster knows it. The type local, other than hostPath,
// honours fsGroup, and its node affinity keeps the pods at their data.
func (p *provisioner) describe(o controller.ProvisionOptions, path string) *v1.PersistentVolume {
	reclaim := v1.PersistentVolumeReclaimDelete
	if o.StorageClass.ReclaimPolicy != nil {
		reclaim = *o.StorageClass.ReclaimPolicy
	}
	mode := v1.PersistentVolumeFilesystem
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: reclaim,
			AccessModes:                   o.PVC.Spec.AccessModes,
			VolumeMode:                    &mode,
			MountOptions:                  o.StorageClass.MountOptions,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{
					Key:      v1.LabelHostname,
					Operator: v1.NodeSelectorOpIn,
					Values:   []string{p.node},
				}},
			}}}},
		},
	}
}

// nodeOf is the node that describe has bound a volume to; empty for volumes of other makers.
func nodeOf(volume *v1.PersistentVolume) string {
	affinity := volume.Spec.NodeAffinity
	if affinity == nil || affinity.Required == nil || len(affinity.Required.NodeSelectorTerms) != 1 {
		return ""
	}
	for _, wants := range affinity.Required.NodeSelectorTerms[0].MatchExpressions {
		if wants.Key == v1.LabelHostname && wants.Operator == v1.NodeSelectorOpIn && len(wants.Values) == 1 {
			return wants.Values[0]
		}
	}
	return ""
}
