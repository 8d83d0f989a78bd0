// Command consumers reads a key of a Secret with the code of the program for which it is meant, and prints what that program
// sees, as JSON.
//
//	consumers docker FILE REGISTRY
//	consumers envoy FILE
//	consumers prometheus FILE URL
//	consumers argocd-cluster FILE
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/docker/cli/cli/config/configfile"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/common/config"
	"google.golang.org/protobuf/encoding/protojson"
)

func main() {
	seen, err := read(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "consumers:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		panic(err)
	}
}

func read(consumer, path string, more []string) (any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	switch consumer {
	case "docker":
		return docker(data, more[0])
	case "envoy":
		return envoy(data)
	case "prometheus":
		return prometheus(path, more[0])
	case "argocd-cluster":
		return argocdCluster(data)
	default:
		return nil, fmt.Errorf("unknown consumer %s", consumer)
	}
}

// docker returns the login that the Docker CLI has for a registry.
func docker(data []byte, registry string) (any, error) {
	file := configfile.New("config.json")
	if err := file.LoadFromReader(bytes.NewReader(data)); err != nil {
		return nil, err
	}
	login := file.AuthConfigs[registry]
	return map[string]string{"username": login.Username, "password": login.Password}, nil
}

// envoy returns the secret of a resource file for SDS.
func envoy(data []byte) (any, error) {
	var response discoveryv3.DiscoveryResponse
	if err := protojson.Unmarshal(data, &response); err != nil {
		return nil, err
	}
	if len(response.Resources) != 1 {
		return nil, fmt.Errorf("%d resources", len(response.Resources))
	}
	var secret tlsv3.Secret
	if err := response.Resources[0].UnmarshalTo(&secret); err != nil {
		return nil, err
	}
	if err := secret.ValidateAll(); err != nil {
		return nil, err
	}
	inline := secret.GetGenericSecret().GetSecret().GetInlineString()
	return map[string]string{"name": secret.GetName(), "secret": inline}, nil
}

// prometheus sends a request as a scrape with this authorization does.
func prometheus(path, url string) (any, error) {
	client, err := config.NewClientFromConfig(config.HTTPClientConfig{
		Authorization: &config.Authorization{Type: "Bearer", CredentialsFile: path},
	}, "consumers")
	if err != nil {
		return nil, err
	}
	response, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	return map[string]int{"status": response.StatusCode}, nil
}

// clusterConfig has the members of ClusterConfig of Argo CD 3.2 (pkg/apis/application/v1alpha1/types.go), whose module needs
// a thousand packages, among them all of Kubernetes.
type clusterConfig struct {
	Username           string           `json:"username,omitempty"`
	Password           string           `json:"password,omitempty"`
	BearerToken        string           `json:"bearerToken,omitempty"`
	TLSClientConfig    tlsClientConfig  `json:"tlsClientConfig"`
	AWSAuthConfig      *json.RawMessage `json:"awsAuthConfig,omitempty"`
	ExecProviderConfig *json.RawMessage `json:"execProviderConfig,omitempty"`
	DisableCompression bool             `json:"disableCompression,omitempty"`
	ProxyURL           string           `json:"proxyUrl,omitempty"`
}

type tlsClientConfig struct {
	Insecure   bool   `json:"insecure"`
	ServerName string `json:"serverName,omitempty"`
	CertData   []byte `json:"certData,omitempty"`
	KeyData    []byte `json:"keyData,omitempty"`
	CAData     []byte `json:"caData,omitempty"`
}

// argocdCluster returns the value of the key config of a cluster Secret.
func argocdCluster(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var parsed clusterConfig
	err := decoder.Decode(&parsed)
	return parsed, err
}
