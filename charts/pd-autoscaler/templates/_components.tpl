{{/* What the parts beside the controller share. Each takes a list: the root, and the part's word, under which its values are
     too: webhook, extender, control. The controller's own templates are older than its parts and have none. */}}

{{- define "pd-autoscaler.componentName" -}}
{{ include "pd-autoscaler.fullname" (first .) }}-{{ last . | kebabcase }}
{{- end }}

{{- define "pd-autoscaler.componentSelectorLabels" -}}
app.kubernetes.io/name: {{ include "pd-autoscaler.name" (first .) }}
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . | kebabcase }}
{{- end }}

{{- define "pd-autoscaler.componentLabels" -}}
{{- merge (include "pd-autoscaler.componentSelectorLabels" . | fromYaml) (include "pd-autoscaler.labels" (first .) | fromYaml) | toYaml }}
{{- end }}

{{- define "pd-autoscaler.componentMetadata" -}}
name: {{ include "pd-autoscaler.componentName" . }}
namespace: {{ include "pd-autoscaler.namespace" (first .) }}
labels:
  {{- include "pd-autoscaler.componentLabels" . | nindent 2 }}
{{- end }}

{{/* An image of ours: a list of the root and the image's values. */}}
{{- define "pd-autoscaler.componentImage" -}}
{{- with (first .).Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ (last .).repository }}
{{- if (last .).digest }}@{{ (last .).digest }}
{{- else }}:{{ default (first .).Chart.AppVersion (last .).tag }}
{{- end }}
{{- end }}

{{/* Everything of a pod but its containers and volumes. */}}
{{- define "pd-autoscaler.componentPod" -}}
{{- $root := first . }}
{{- $values := index $root.Values (last .) }}
serviceAccountName: {{ include "pd-autoscaler.componentName" . }}
automountServiceAccountToken: true
terminationGracePeriodSeconds: {{ $root.Values.shutdown.terminationGracePeriodSeconds }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if gt (int $values.replicas) 1 }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "pd-autoscaler.componentSelectorLabels" . | nindent 8 }}
{{- end }}
{{- end }}

{{/* The flags that every program has. */}}
{{- define "pd-autoscaler.componentArgs" -}}
{{- $root := first . -}}
- {{ printf "--admin-address=%s:%d" $root.Values.admin.host (int $root.Values.admin.port) | quote }}
- --log-format={{ $root.Values.log.format }}
{{- with $root.Values.log.filter }}
- {{ printf "--log-filter=%s" . | quote }}
{{- end }}
- --shutdown-grace-period={{ $root.Values.shutdown.gracePeriod }}
{{- with (index $root.Values (last .)).extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The environment of every part. Its Secrets, leases and probes are in the namespace where it runs. */}}
{{- define "pd-autoscaler.componentEnvironment" -}}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- with (index (first .).Values (last .)).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels and annotations of a part's pods. */}}
{{- define "pd-autoscaler.componentPodMetadata" -}}
{{- $values := index (first .).Values (last .) }}
labels:
  {{- merge (include "pd-autoscaler.componentLabels" . | fromYaml) $values.podLabels | toYaml | nindent 2 }}
{{- with $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Everything of a container but its name, image, arguments, environment, ports and mounts. */}}
{{- define "pd-autoscaler.componentContainer" -}}
{{- $root := first . -}}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
livenessProbe:
  httpGet:
    path: /livez
    port: admin
  {{- toYaml $root.Values.livenessProbe | nindent 2 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  {{- toYaml $root.Values.readinessProbe | nindent 2 }}
securityContext:
  {{- toYaml $root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml (index $root.Values (last .)).resources | nindent 2 }}
{{- end }}

{{/* The account of a part, and a budget for its pods if there are several. */}}
{{- define "pd-autoscaler.componentAccount" -}}
{{- $root := first . -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "pd-autoscaler.componentMetadata" . | nindent 2 }}
automountServiceAccountToken: false
{{- if gt (int (index $root.Values (last .)).replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "pd-autoscaler.componentMetadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "pd-autoscaler.componentSelectorLabels" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* Binds the part's account to a role of its name: a list of the root, the word, and ClusterRole or Role. */}}
{{- define "pd-autoscaler.componentBinding" -}}
{{- $part := list (first .) (index . 1) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ last . }}Binding
metadata:
  {{- if eq (last .) "Role" }}
  {{- include "pd-autoscaler.componentMetadata" $part | nindent 2 }}
  {{- else }}
  {{- omit (include "pd-autoscaler.componentMetadata" $part | fromYaml) "namespace" | toYaml | nindent 2 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ last . }}
  name: {{ include "pd-autoscaler.componentName" $part }}
subjects:
  - kind: ServiceAccount
    name: {{ include "pd-autoscaler.componentName" $part }}
    namespace: {{ include "pd-autoscaler.namespace" (first .) }}
{{- end }}

{{- /* Whether control says if there is room for more replicas. */}}
{{- define "pd-autoscaler.whatIf" -}}
{{- $placement := .Values.control.placement }}
{{- if and .Values.control.enabled $placement.enabled $placement.whatIf.enabled }}true{{ end }}
{{- end }}

{{- /* Where the autoscaler asks whether there is room: as stated, or this release's own. */}}
{{- define "pd-autoscaler.placementUrl" -}}
{{- if .Values.decisions.placementUrl }}
{{- .Values.decisions.placementUrl }}
{{- else if include "pd-autoscaler.whatIf" . }}
{{- $name := include "pd-autoscaler.componentName" (list . "control") }}
{{- printf "http://%s.%s:%d" $name (include "pd-autoscaler.namespace" .) (int .Values.control.placement.whatIf.port) }}
{{- end }}
{{- end }}
