// Command kubby-storage gives claims their volumes: directories on the disk of the node that it
// runs on. One pod of it runs on each node and serves only claims and volumes of that node, so the
// pods need not agree on a leader.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Changes come by watching. A resync only takes up again what had failed too often.
const resync = time.Hour

// version is set by the linker.
var version = "unknown"

type settings struct {
	node, root, provisioner, kubeconfig, listen string
	version                                     bool
}

func parse(args []string, env func(string) string) (settings, error) {
	var o settings
	flags := flag.NewFlagSet("kubby-storage", flag.ContinueOnError)
	flags.StringVar(&o.node, "node-name", env("NODE_NAME"), "the node to serve; $NODE_NAME by default")
	flags.StringVar(&o.root, "root", "/var/lib/kubby/volumes", "the node's folder for volumes, mounted at the same path")
	flags.StringVar(&o.provisioner, "provisioner", "kubby.dev/storage", "the provisioner's name in storage classes")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the cluster; by default as a pod does")
	flags.StringVar(&o.listen, "listen", "", "address to answer /healthz on, such as :9898; none by default")
	flags.BoolVar(&o.version, "version", false, "print the version")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.node == "" && !o.version {
		return o, errors.New("no node: give --node-name or set NODE_NAME")
	}
	return o, nil
}

func main() {
	o, err := parse(os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubby-storage:", err)
		os.Exit(2)
	}
	if o.version {
		fmt.Println("kubby-storage", version)
		return
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// It waits nearly all the time; more threads only cost.
		runtime.GOMAXPROCS(1)
	}
	if err := run(o); err != nil {
		klog.ErrorS(err, "kubby-storage ends")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

func run(o settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// Without a kubeconfig this is the in-cluster configuration.
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("cannot tell how to reach the cluster: %w", err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.UserAgent = "kubby-storage/" + version
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot reach the cluster: %w", err)
	}
	volumes, err := openVolumes(o.root)
	if err != nil {
		return err
	}
	defer volumes.close()
	if err := volumes.sweep(); err != nil {
		klog.ErrorS(err, "Cannot remove what is left of deleted volumes", "root", o.root)
	}
	if o.listen != "" {
		if err := serveHealth(ctx, o.listen, volumes); err != nil {
			return err
		}
	}
	klog.InfoS("Serving", "version", version, "node", o.node, "root", o.root, "provisioner", o.provisioner)
	controller.NewProvisionController(ctx, client, o.provisioner, &provisioner{node: o.node, volumes: volumes},
		controller.LeaderElection(false),
		controller.ResyncPeriod(resync),
		controller.Threadiness(2),
	).Run(ctx)
	return nil
}

// serveHealth answers /healthz with 200 as long as the folder for volumes is there.
func serveHealth(ctx context.Context, address string, volumes *volumes) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	server := &http.Server{Handler: healthHandler(volumes), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			klog.ErrorS(err, "Health checks are no longer answered", "address", address)
		}
	}()
	return nil
}

func healthHandler(volumes *volumes) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := volumes.size(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
