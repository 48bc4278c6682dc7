// CoreDNS with the two plugins that a cluster of tests needs.
//
// Its own program carries the plugins of every cloud; without them a build takes a fraction of the
// time. The command line, the Corefile and the plugins are CoreDNS's, unchanged.
package main

import (
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() {
	coremain.Run()
}
