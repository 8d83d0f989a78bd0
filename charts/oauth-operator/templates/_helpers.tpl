{{- define "oauth-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* If the release name contains the chart name, it is not repeated: `oauth-operator`, not
     `oauth-operator-oauth-operator`. 54 characters leave room for the longest suffix, `-metrics`. */}}
{{- define "oauth-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "oauth-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "oauth-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "oauth-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "oauth-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* On by default if all namespaces are watched: there, authors of integrations and owners of Secrets are different users. */}}
{{- define "oauth-operator.requireAllowedEndpoints" -}}
{{- if kindIs "bool" .Values.egress.requireAllowedEndpoints }}
{{- .Values.egress.requireAllowedEndpoints }}
{{- else }}
{{- empty .Values.watchNamespaces }}
{{- end }}
{{- end }}

{{- define "oauth-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "oauth-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "oauth-operator.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
What the policy allows in target Secrets: the operator's own defaults, and what the values add.
*/}}
{{- define "oauth-operator.allowedTargets" -}}
{{- $types := list "Opaque" "kubernetes.io/basic-auth" "kubernetes.io/tls" "kubernetes.io/dockerconfigjson" "kubernetes.io/ssh-auth" -}}
{{- $keys := list "app.kubernetes.io/name" "app.kubernetes.io/component" "app.kubernetes.io/version" -}}
{{- $prefixes := list -}}
{{- range .Values.targets.allowMetadata -}}
{{- if hasSuffix "/*" . -}}
{{- $prefixes = append $prefixes (trimSuffix "*" .) -}}
{{- else -}}
{{- $keys = append $keys . -}}
{{- end -}}
{{- end -}}
{{- dict "types" (concat $types .Values.targets.allowTypes) "keys" $keys "prefixes" $prefixes | toYaml -}}
{{- end }}
