// Command gitops shows what Argo CD and kstatus see of objects, as JSON. DIRECTORY has the layout of resource_customizations
// of Argo CD.
//
//	gitops health DIRECTORY RECORDS
//	gitops action DIRECTORY ACTION OBJECT
//	gitops test DIRECTORY
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	seen, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		panic(err)
	}
}

func run(command, dir string, more []string) (any, error) {
	switch command {
	case "health":
		return healthOfAll(dir, more[0])
	case "action":
		object, err := readObject(more[1])
		if err != nil {
			return nil, err
		}
		return runAction(dir, more[0], object)
	case "test":
		return runTests(dir)
	default:
		return nil, fmt.Errorf("unknown command %s", command)
	}
}

// record is an object, and when it is looked at.
type record struct {
	Name   string         `json:"name"`
	Now    time.Time      `json:"now"`
	Object map[string]any `json:"object"`
}

type result struct {
	Name    string `json:"name"`
	Argo    health `json:"argo"`
	Kstatus string `json:"kstatus"`
}

func healthOfAll(dir, path string) (any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// With integers, as in the caches of controllers.
	var records []struct {
		Name, Now string
		Object    json.RawMessage
	}
	if err := json.Unmarshal(data, &records); err != nil {
		return nil, err
	}
	results := make([]result, 0, len(records))
	for _, raw := range records {
		one := record{Name: raw.Name}
		if one.Now, err = time.Parse(time.RFC3339, raw.Now); err != nil {
			return nil, fmt.Errorf("%s: %w", raw.Name, err)
		}
		if err := kjson.Unmarshal(raw.Object, &one.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", raw.Name, err)
		}
		found, err := look(dir, one)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", raw.Name, err)
		}
		results = append(results, found)
	}
	return results, nil
}

func look(dir string, one record) (result, error) {
	object := &unstructured.Unstructured{Object: one.Object}
	computed, err := status.Compute(object)
	if err != nil {
		return result{}, err
	}
	seen := result{Name: one.Name, Kstatus: string(computed.Status)}
	seen.Argo, err = healthOf(dir, object, one.Now)
	return seen, err
}

// directoryOf returns the directory of the scripts for a kind.
func directoryOf(dir string, object *unstructured.Unstructured) string {
	kind := object.GroupVersionKind()
	return filepath.Join(dir, kind.Group, kind.Kind)
}

func readObject(path string) (*unstructured.Unstructured, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	return object, object.UnmarshalJSON(data)
}
