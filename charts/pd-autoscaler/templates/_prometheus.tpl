{{/* How the binaries get into the Prometheus server: flags, and the files they name. */}}

{{- define "pd-autoscaler.prometheusDirectory" -}}
/etc/pd-prometheus
{{- end }}

{{- define "pd-autoscaler.prometheusArgs" -}}
{{- $directory := include "pd-autoscaler.prometheusDirectory" . }}
{{- $auth := .Values.prometheus.auth }}
{{- $tls := .Values.prometheus.tls }}
- --prometheus-timeout={{ .Values.prometheus.timeout }}
{{- if $auth.username }}
- {{ printf "--prometheus-username=%s" $auth.username | quote }}
- --prometheus-password-file={{ $directory }}/password
{{- else if or $auth.secretName $auth.serviceAccountToken.enabled }}
- --prometheus-token-file={{ $directory }}/token
{{- end }}
{{- if or $tls.caSecretName $tls.caConfigMapName }}
- --prometheus-ca-file={{ $directory }}/ca.crt
{{- end }}
{{- if $tls.clientSecretName }}
- --prometheus-cert-file={{ $directory }}/tls.crt
- --prometheus-key-file={{ $directory }}/tls.key
{{- end }}
{{- range $name, $value := .Values.prometheus.headers }}
- {{ printf "--prometheus-header=%s=%s" $name $value | quote }}
{{- end }}
{{- end }}

{{/* Sources of the projected volume with those files; empty when there are none. */}}
{{- define "pd-autoscaler.prometheusSources" -}}
{{- $auth := .Values.prometheus.auth }}
{{- $tls := .Values.prometheus.tls }}
{{- if and $auth.secretName $auth.username }}
- secret:
    name: {{ $auth.secretName }}
    items: [{ key: {{ $auth.passwordKey | quote }}, path: password }]
{{- else if $auth.secretName }}
- secret:
    name: {{ $auth.secretName }}
    items: [{ key: {{ $auth.tokenKey | quote }}, path: token }]
{{- else if $auth.serviceAccountToken.enabled }}
- serviceAccountToken:
    path: token
    expirationSeconds: {{ $auth.serviceAccountToken.expirationSeconds }}
    {{- with $auth.serviceAccountToken.audience }}
    audience: {{ . | quote }}
    {{- end }}
{{- end }}
{{- if $tls.caSecretName }}
- secret:
    name: {{ $tls.caSecretName }}
    items: [{ key: {{ $tls.caKey | quote }}, path: ca.crt }]
{{- else if $tls.caConfigMapName }}
- configMap:
    name: {{ $tls.caConfigMapName }}
    items: [{ key: {{ $tls.caKey | quote }}, path: ca.crt }]
{{- end }}
{{- if $tls.clientSecretName }}
- secret:
    name: {{ $tls.clientSecretName }}
    items: [{ key: tls.crt, path: tls.crt }, { key: tls.key, path: tls.key }]
{{- end }}
{{- end }}

{{- define "pd-autoscaler.prometheusVolume" -}}
{{- with include "pd-autoscaler.prometheusSources" . | trim }}
- name: prometheus
  projected:
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "pd-autoscaler.prometheusMount" -}}
{{- if include "pd-autoscaler.prometheusSources" . | trim }}
- name: prometheus
  mountPath: {{ include "pd-autoscaler.prometheusDirectory" . }}
  readOnly: true
{{- end }}
{{- end }}
