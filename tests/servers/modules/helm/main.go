// `helm template`, as far as the tests of charts need it: Helm's own loader, schema validation and
// engine, without the parts of its command that talk to clusters, registries and repositories.
// Those are most of what there is to compile.
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) < 3 || words[0] != "template" {
		return errors.New("usage: template RELEASE CHART [--namespace NAME] [--set K=V] [--values FILE]")
	}
	values := map[string]any{}
	flags := flag.NewFlagSet("template", flag.ContinueOnError)
	namespace := flags.String("namespace", "default", "of the release")
	unchecked := flags.Bool("skip-schema-validation", false, "do not look at values.schema.json")
	flags.Func("values", "a file of values", func(name string) error {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		read, err := loader.LoadValues(file)
		values = loader.MergeMaps(values, read)
		return err
	})
	flags.Func("set", "one value", func(text string) error {
		return strvals.ParseInto(text, values)
	})
	if err := flags.Parse(words[3:]); err != nil {
		return err
	}
	chart, err := loader.Load(words[2])
	if err != nil {
		return err
	}
	if err := chart.Validate(); err != nil {
		return err
	}
	release := common.ReleaseOptions{
		Name: words[1], Namespace: *namespace, Revision: 1, IsInstall: true,
	}
	given, err := util.ToRenderValuesWithSchemaValidation(
		chart, values, release, common.DefaultCapabilities, *unchecked)
	if err != nil {
		return err
	}
	rendered, err := engine.Render(chart, given)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		text := strings.TrimSpace(rendered[name])
		if text == "" || strings.HasPrefix(path.Base(name), "_") || strings.HasSuffix(name, "NOTES.txt") {
			continue
		}
		fmt.Printf("---\n# Source: %s\n%s\n", name, text)
	}
	return nil
}
