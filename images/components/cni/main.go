// Command cni is the standard plugins of the Container Network Interface in one program: the name
// it is called by picks the plugin. As separate programs the four that each pod needs would have
// 16 MB; all of them in this one have 7.
//
// Each plugin is a program of its own in the project's module, and Go lets no package import a
// program. So kubby copies their folders to `plugins` before it builds, as packages named plugin
// with a function Main (src/assets/components/cni.rs). Copy them there by hand for `go mod tidy`.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	hostlocal "kubby.dev/cni/plugins/ipam/host-local"
	static "kubby.dev/cni/plugins/ipam/static"
	bridge "kubby.dev/cni/plugins/main/bridge"
	dummy "kubby.dev/cni/plugins/main/dummy"
	hostdevice "kubby.dev/cni/plugins/main/host-device"
	ipvlan "kubby.dev/cni/plugins/main/ipvlan"
	loopback "kubby.dev/cni/plugins/main/loopback"
	macvlan "kubby.dev/cni/plugins/main/macvlan"
	ptp "kubby.dev/cni/plugins/main/ptp"
	tap "kubby.dev/cni/plugins/main/tap"
	vlan "kubby.dev/cni/plugins/main/vlan"
	bandwidth "kubby.dev/cni/plugins/meta/bandwidth"
	firewall "kubby.dev/cni/plugins/meta/firewall"
	portmap "kubby.dev/cni/plugins/meta/portmap"
	sbr "kubby.dev/cni/plugins/meta/sbr"
	tuning "kubby.dev/cni/plugins/meta/tuning"
	vrf "kubby.dev/cni/plugins/meta/vrf"
)

var plugins = map[string]func(){
	"bandwidth":   bandwidth.Main,
	"bridge":      bridge.Main,
	"dummy":       dummy.Main,
	"firewall":    firewall.Main,
	"host-device": hostdevice.Main,
	"host-local":  hostlocal.Main,
	"ipvlan":      ipvlan.Main,
	"loopback":    loopback.Main,
	"macvlan":     macvlan.Main,
	"portmap":     portmap.Main,
	"ptp":         ptp.Main,
	"sbr":         sbr.Main,
	"static":      static.Main,
	"tap":         tap.Main,
	"tuning":      tuning.Main,
	"vlan":        vlan.Main,
	"vrf":         vrf.Main,
}

func main() {
	name := filepath.Base(os.Args[0])
	plugin, known := plugins[name]
	if !known {
		fmt.Fprintf(os.Stderr, "%s is not one of the network plugins in this program\n", name)
		os.Exit(2)
	}
	plugin()
}
