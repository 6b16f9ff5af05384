// kubeadm as Kubernetes releases it, built from its module: the benchmark's yardstick.
package main

import (
	"os"

	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
)

func main() {
	if err := kubeadm.Run(); err != nil {
		os.Exit(1)
	}
}
