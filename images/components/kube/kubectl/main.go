// Command kubectl is kubectl, of the same version as the cluster. It is a binary of its own:
// people and scripts call it all the time, and it starts twice as fast and is less than half as
// big without the servers' packages.
package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	// The verbosity counts from the first line on: plugins and kuberc are handled while the
	// command is put together, before its flags are parsed.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints it as users of kubectl know it, and exits
	}
}
