//! Tests the server with kubectl over TCP. They are skipped if kubectl is not installed, except in CI.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::api::{Actor, Options, Server};
use super::clock::Clock;
use super::controllers::{Controllers, Pace};
use super::standin;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "web:1", env: [{name: A, value: "1"}, {name: B, value: "2"}]}
"#;

struct Kubectl {
    home: PathBuf,
}

impl Kubectl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(arguments).env("HOME", &self.home).env("KUBECONFIG", self.home.join("kubeconfig"));
        command
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        use std::io::Write;
        let piped =
            |command: &mut Command| command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = piped(&mut self.command(arguments)).unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed, and returns its output.
    fn succeed(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Runs a command that must fail, and returns its error output.
    fn fail(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// Runs a test with a server and a kubectl that is configured for it.
async fn with_kubectl(name: &str, test: impl FnOnce(&Kubectl) + Send + 'static) {
    with_server(name, |_, _| {}, test).await;
}

/// Runs a test with a server, its controllers and a node.
async fn with_cluster(name: &str, test: impl FnOnce(&Kubectl) + Send + 'static) {
    let bring_up = |server: &Server, stop: &CancellationToken| {
        Controllers::start(server, Pace::default(), stop);
        standin::add_node(&Actor::new(server.clone(), "kubelet"), "n", "20").unwrap();
        standin::run(server, Duration::from_millis(20), stop);
    };
    with_server(name, bring_up, test).await;
}

async fn with_server(
    name: &str,
    prepare: impl FnOnce(&Server, &CancellationToken),
    test: impl FnOnce(&Kubectl) + Send + 'static,
) {
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "these tests need kubectl on the PATH");
        eprintln!("skipped: kubectl is not installed");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(Options::new(Clock::new(sluice_base::clock::Clock::system())));
    let stop = CancellationToken::new();
    prepare(&server, &stop);
    let serving = tokio::spawn(super::http::serve(server, listener, stop.clone()));
    let home = std::env::temp_dir().join(format!("embedded-kubectl-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \"http://{address}\"}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, namespace: default}}}}]\n"
    );
    std::fs::write(home.join("kubeconfig"), kubeconfig).unwrap();
    let kubectl = Kubectl { home: home.clone() };
    tokio::task::spawn_blocking(move || test(&kubectl)).await.unwrap();
    stop.cancel();
    serving.await.unwrap().unwrap();
    let _ = std::fs::remove_dir_all(home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_edit_scale_and_delete() {
    with_kubectl("apply", |kubectl| {
        let apply = &["apply", "-f", "-"];
        assert_eq!(kubectl.succeed(apply, DEPLOYMENT), "deployment.apps/web created\n");
        assert_eq!(kubectl.succeed(apply, DEPLOYMENT), "deployment.apps/web unchanged\n");
        let changed = DEPLOYMENT.replace("value: \"2\"", "value: \"3\"");
        assert_eq!(kubectl.succeed(apply, &changed), "deployment.apps/web configured\n");
        let env = "jsonpath={.spec.template.spec.containers[0].env[*].value} {.metadata.generation}";
        assert_eq!(kubectl.succeed(&["get", "deploy", "web", "-o", env], ""), "1 3 2");
        let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"web:2"}]}}}}"#;
        kubectl.succeed(&["patch", "deploy", "web", "-p", patch], "");
        kubectl.succeed(&["scale", "deploy", "web", "--replicas=5"], "");
        let table = kubectl.succeed(&["get", "deploy"], "");
        assert!(table.contains("READY") && table.contains("0/5"), "{table}");
        let owner = "jsonpath={.metadata.managedFields[*].manager}";
        assert!(kubectl.succeed(&["get", "deploy", "web", "-o", owner], "").contains("kubectl-client-side-apply"));
        let unknown = DEPLOYMENT.replace("replicas: 2", "replica: 2");
        let refused = kubectl.fail(apply, &unknown);
        assert!(refused.contains("strict decoding error: unknown field \"spec.replica\""), "{refused}");
        assert!(
            kubectl
                .fail(apply, r#"{"apiVersion":"v1","kind":"Nothing","metadata":{"name":"x"}}"#)
                .contains("no matches for kind")
        );
        assert_eq!(kubectl.succeed(&["delete", "deploy", "web"], "").lines().count(), 1);
        assert!(kubectl.fail(&["get", "deploy", "web"], "").contains("(NotFound)"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_shows_conflicts() {
    with_kubectl("server-side", |kubectl| {
        let apply = |manager: &'static str| ["apply", "--server-side", "--field-manager", manager, "-f", "-"];
        kubectl.succeed(&apply("one"), DEPLOYMENT);
        let more = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
        let refused = kubectl.fail(&apply("two"), &more);
        assert!(refused.contains("conflict with \"one\": .spec.replicas"), "{refused}");
        kubectl.succeed(&["apply", "--server-side", "--force-conflicts", "--field-manager", "two", "-f", "-"], &more);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_watch_wait_and_explain() {
    with_kubectl("watch", |kubectl| {
        let definition = "---\n{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: gears.example.test}, \
            spec: {group: example.test, scope: Namespaced, names: {plural: gears, singular: gear, kind: Gear}, \
            versions: [{name: v1, served: true, storage: true, subresources: {status: {}}, \
            additionalPrinterColumns: [{name: Teeth, type: integer, jsonPath: .spec.teeth}], \
            schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: \
            {teeth: {type: integer, description: How many.}}}, status: {type: object, \
            x-kubernetes-preserve-unknown-fields: true}}}}}]}}";
        kubectl.succeed(&["apply", "-f", "-"], definition);
        kubectl.succeed(&["wait", "--for=condition=established", "crd/gears.example.test", "--timeout=10s"], "");
        let gear = "---\n{apiVersion: example.test/v1, kind: Gear, metadata: {name: a}, spec: {teeth: 12}}";
        kubectl.succeed(&["apply", "-f", "-"], gear);
        let mut watch = kubectl.command(&["get", "gears", "-w"]).stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        kubectl.succeed(&["patch", "gear", "a", "--type=merge", "-p", r#"{"spec":{"teeth":24}}"#], "");
        let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
        kubectl.succeed(&["patch", "gear", "a", "--subresource=status", "--type=merge", "-p", status], "");
        kubectl.succeed(&["wait", "--for=condition=ready", "gear/a", "--timeout=10s"], "");
        kubectl.succeed(&["delete", "gear", "a"], "");
        watch.kill().unwrap();
        let seen = String::from_utf8(watch.wait_with_output().unwrap().stdout).unwrap();
        assert!(seen.contains("TEETH") && seen.contains("12") && seen.contains("24"), "{seen}");
        assert!(kubectl.succeed(&["explain", "gear.spec.teeth"], "").contains("How many."));
        assert!(kubectl.succeed(&["explain", "deployment.spec.replicas"], "").contains("Number of desired pods"));
        assert!(kubectl.succeed(&["api-resources"], "").contains("gears"));
        kubectl.succeed(&["delete", "crd", "gears.example.test"], "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_create_and_run_make_valid_objects() {
    with_kubectl("create", |kubectl| {
        kubectl.succeed(&["create", "namespace", "one"], "");
        kubectl.succeed(&["create", "configmap", "map", "--from-literal=a=b"], "");
        assert_eq!(kubectl.succeed(&["get", "configmap", "map", "-o", "jsonpath={.data.a}"], ""), "b");
        kubectl.succeed(&["create", "secret", "generic", "hidden", "--from-literal=a=b"], "");
        assert_eq!(kubectl.succeed(&["get", "secret", "hidden", "-o", "jsonpath={.data.a}"], ""), "Yg==");
        kubectl.succeed(&["create", "deployment", "web", "--image=web:1", "--replicas=3", "--port=80"], "");
        let fields = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].ports[0].containerPort}";
        assert_eq!(kubectl.succeed(&["get", "deploy", "web", "-o", fields], ""), "3 80");
        kubectl.succeed(&["create", "job", "once", "--image=job:1", "--", "run"], "");
        kubectl.succeed(&["create", "role", "reader", "--verb=get,list", "--resource=pods"], "");
        kubectl.succeed(&["create", "rolebinding", "readers", "--role=reader", "--serviceaccount=default:me"], "");
        kubectl.succeed(&["create", "poddisruptionbudget", "few", "--selector=app=web", "--max-unavailable=50%"], "");
        kubectl.succeed(&["create", "quota", "small", "--hard=cpu=1,pods=2"], "");
        assert_eq!(kubectl.succeed(&["get", "quota", "small", "-o", "jsonpath={.spec.hard.cpu}"], ""), "1");
        kubectl.succeed(&["run", "alone", "--image=pod:1", "--restart=Never"], "");
        assert_eq!(kubectl.succeed(&["auth", "can-i", "create", "pods"], ""), "yes\n");
        kubectl.succeed(&["delete", "pod", "alone"], "");
        kubectl.succeed(&["delete", "configmaps,secrets", "--all"], "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollouts_drain_and_cascading_deletion() {
    with_cluster("rollout", |kubectl| {
        kubectl.succeed(&["apply", "-f", "-"], DEPLOYMENT);
        let status = &["rollout", "status", "deployment/web", "--timeout=30s"];
        assert!(kubectl.succeed(status, "").ends_with("deployment \"web\" successfully rolled out\n"));
        kubectl.succeed(&["wait", "--for=condition=available", "deployment/web", "--timeout=30s"], "");
        kubectl.succeed(&["set", "image", "deployment/web", "c=web:2"], "");
        assert!(kubectl.succeed(status, "").ends_with("deployment \"web\" successfully rolled out\n"));
        let history = kubectl.succeed(&["rollout", "history", "deployment/web"], "");
        assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
        kubectl.succeed(&["rollout", "undo", "deployment/web"], "");
        kubectl.succeed(status, "");
        let images = "jsonpath={.items[*].spec.containers[0].image}";
        let running = ["get", "pods", "--field-selector=status.phase=Running", "-o", images];
        assert!(kubectl.succeed(&running, "").contains("web:1"));
        kubectl.succeed(&["rollout", "restart", "deployment/web"], "");
        kubectl.succeed(status, "");
        kubectl.succeed(&["scale", "deployment/web", "--replicas=3"], "");
        kubectl.succeed(status, "");
        let table = kubectl.succeed(&["get", "deployment", "web"], "");
        assert!(table.contains("3/3"), "{table}");
        let described = kubectl.succeed(&["describe", "deployment", "web"], "");
        assert!(described.contains("Scaled up replica set") && described.contains("NewReplicaSet:"), "{described}");
        kubectl.succeed(&["drain", "n", "--force", "--timeout=30s"], "");
        let unscheduled = ["get", "pods", "-o", "jsonpath={.items[*].status.conditions[0].reason}"];
        assert!(kubectl.succeed(&unscheduled, "").contains("Unschedulable"));
        kubectl.succeed(&["uncordon", "n"], "");
        kubectl.succeed(status, "");
        kubectl.succeed(&["delete", "deployment", "web", "--cascade=foreground", "--timeout=30s"], "");
        assert_eq!(kubectl.succeed(&["get", "pods,replicasets", "-o", "name"], ""), "");
        kubectl.succeed(&["create", "namespace", "one"], "");
        kubectl.succeed(&["create", "deployment", "web", "--image=web:1", "-n", "one"], "");
        kubectl.succeed(&["delete", "namespace", "one", "--timeout=30s"], "");
        assert!(kubectl.fail(&["get", "namespace", "one"], "").contains("(NotFound)"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateful_sets_and_jobs() {
    with_cluster("sets", |kubectl| {
        let set = DEPLOYMENT.replace("kind: Deployment", "kind: StatefulSet");
        kubectl.succeed(&["apply", "-f", "-"], &set);
        let status = &["rollout", "status", "statefulset/web", "--timeout=30s"];
        assert!(kubectl.succeed(status, "").contains("roll out complete: 2 new pods have been updated"));
        kubectl.succeed(&["set", "image", "statefulset/web", "c=web:2"], "");
        assert!(kubectl.succeed(status, "").contains("roll out complete: 2 new pods have been updated"));
        let history = kubectl.succeed(&["rollout", "history", "statefulset/web"], "");
        assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
        assert!(kubectl.succeed(&["get", "controllerrevisions"], "").contains("statefulset.apps/web"));
        kubectl.succeed(&["rollout", "undo", "statefulset/web"], "");
        kubectl.succeed(status, "");
        let image = ["get", "pod", "web-1", "-o", "jsonpath={.spec.containers[0].image}"];
        assert_eq!(kubectl.succeed(&image, ""), "web:1");
        let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {completions: 2, template: \
                   {metadata: {labels: {brief: \"yes\"}}, spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}";
        kubectl.succeed(&["apply", "-f", "-"], &format!("---\n{job}"));
        kubectl.succeed(&["wait", "--for=condition=complete", "job/once", "--timeout=30s"], "");
        let table = kubectl.succeed(&["get", "jobs"], "");
        assert!(table.contains("Complete") && table.contains("2/2"), "{table}");
        kubectl.succeed(&["delete", "job", "once", "--timeout=30s"], "");
        assert_eq!(kubectl.succeed(&["get", "pods", "-l", "job-name=once", "-o", "name"], ""), "");
    })
    .await;
}
