// Command zitadel-oidc serves the example server of Zitadel's OpenID Connect library on loopback, with a client whose
// secret the tests can search for in the output of the operator.
package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	port, callback := os.Args[1], os.Args[2]
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	issuer := fmt.Sprintf("http://localhost:%s/", port)
	storage.RegisterClients(storage.WebClient("web", "web-client-secret", callback))
	router := exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), logger, false)
	logger.Error("stopped", "error", http.ListenAndServe("localhost:"+port, router))
	os.Exit(1)
}
