{{/* Names, labels and checks that several templates share. */}}

{{- define "pd-autoscaler.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* The release's name in front, unless it says the same already. Cut so that suffixes fit in 63 characters. */}}
{{- define "pd-autoscaler.fullname" -}}
{{- $name := include "pd-autoscaler.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Where the release's own objects are. */}}
{{- define "pd-autoscaler.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "pd-autoscaler.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pd-autoscaler.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: autoscaler
{{- end }}

{{/* The labels of every object: the chart's, and under them the user's. */}}
{{- define "pd-autoscaler.labels" -}}
{{- merge (include "pd-autoscaler.chartLabels" . | fromYaml) .Values.commonLabels | toYaml }}
{{- end }}

{{- define "pd-autoscaler.chartLabels" -}}
{{ include "pd-autoscaler.selectorLabels" . }}
app.kubernetes.io/part-of: pdautoscaler
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The chart's labels with a user's under them, who may add but not replace. Takes a list: the root, the user's labels. */}}
{{- define "pd-autoscaler.labelsWith" -}}
{{- merge (include "pd-autoscaler.labels" (first .) | fromYaml) (last .) | toYaml }}
{{- end }}

{{- define "pd-autoscaler.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "pd-autoscaler.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "pd-autoscaler.image" -}}
{{- with .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}
{{- else }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* What no schema can say: how values fit together. */}}
{{- define "pd-autoscaler.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) }}
{{- fail (printf "replicas is %d and leaderElection.enabled is false, so that several controllers would act at once: enable leader election, or set replicas to 1" (int .Values.replicas)) }}
{{- end }}
{{- if ge (int .Values.shard.index) (int .Values.shard.count) }}
{{- fail (printf "shard.index is %d and shard.count is %d: shards are counted from 0" (int .Values.shard.index) (int .Values.shard.count)) }}
{{- end }}
{{- if and .Values.autoscaler.console.enabled (eq (int .Values.autoscaler.console.port) (int .Values.admin.port)) }}
{{- fail (printf "autoscaler.console.port and admin.port are both %d, and one pod serves both: choose two" (int .Values.admin.port)) }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.service.enabled) }}
{{- fail "serviceMonitor.enabled is true and service.enabled is false, so that there is nothing to scrape: enable the service, or use podMonitor" }}
{{- end }}
{{- if and .Values.webhook.enabled .Values.webhook.certManager.enabled (not .Values.webhook.certManager.issuerRef) }}
{{- fail "webhook.certManager.enabled is true and webhook.certManager.issuerRef is empty: name the issuer" }}
{{- end }}
{{- if and .Values.prometheus.auth.username (not .Values.prometheus.auth.secretName) }}
{{- fail "prometheus.auth.username is given and prometheus.auth.secretName is empty: name the Secret with the password" }}
{{- end }}
{{- if and .Values.prometheus.auth.secretName .Values.prometheus.auth.serviceAccountToken.enabled }}
{{- fail "prometheus.auth.secretName is given and prometheus.auth.serviceAccountToken.enabled is true, so that there are two logins: choose one" }}
{{- end }}
{{- if and .Values.prometheus.tls.caSecretName .Values.prometheus.tls.caConfigMapName }}
{{- fail "prometheus.tls.caSecretName and prometheus.tls.caConfigMapName are both given: choose one" }}
{{- end }}
{{- if and .Values.scheduler.enabled (not .Values.extender.enabled) }}
{{- fail "scheduler.enabled is true and extender.enabled is false, so that there is nothing for it to ask: enable the extender" }}
{{- end }}
{{- if and .Values.scheduler.enabled (not .Values.scheduler.image.registry) }}
{{- fail "scheduler.enabled is true and scheduler.image.registry is empty: name the registry that the cluster's kube-scheduler image comes from" }}
{{- end }}
{{- if and .Values.extender.enabled (not .Values.extender.scheduling.filter) (not .Values.extender.scheduling.score) }}
{{- fail "extender.scheduling.filter and extender.scheduling.score are both false, so that there is nothing to ask the extender: enable one, or disable the extender" }}
{{- end }}
{{- if and .Values.extender.enabled .Values.extender.scheduling.score .Values.webhook.enabled (eq (include "pd-autoscaler.webhookEdition" .) "webhook") (not (has .Values.webhook.preferMargin (list "none" .Values.extender.preferMargin))) }}
{{- fail (printf "webhook.preferMargin is %s and extender.preferMargin is %s, so that each undoes what the other does: choose one, or set webhook.preferMargin to none" .Values.webhook.preferMargin .Values.extender.preferMargin) }}
{{- end }}
{{- if and .Values.control.enabled .Values.control.publisher.config (not (default .Values.prometheus.url .Values.control.prometheusUrl)) }}
{{- fail "control.publisher.config is given and there is no Prometheus to ask: set control.prometheusUrl or prometheus.url" }}
{{- end }}
{{- end }}
