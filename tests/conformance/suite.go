// Package conformance names Kubernetes' end-to-end tests, which `go test -c` makes a program of.
package conformance

import _ "k8s.io/kubernetes/test/e2e"
