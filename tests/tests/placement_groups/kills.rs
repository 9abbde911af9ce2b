//! Controllers that are killed, with no chance to end anything, at chosen moments: on a real
//! scheduler and controller-manager, with the chart's policy, account and arguments.
//!
//! A story makes the controllers work, and at its moment they are killed and started again, once or
//! twice. Whatever was written by then, the group ends placed, in one rack, and no pod that had a
//! node is ended but where the story says so. The suite plays one moment of each story;
//! `PD_KILLS=all` plays all of them.

use std::{collections::BTreeSet, env};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_tests::{
    add_ons::Controllers,
    control_plane::{ControlPlane, eventually},
};
use serde_json::json;

use super::{
    DEADLINE, GROUP, apply, cluster, gang, group, placement, pods, racks, topology, until,
    until_gated,
};

const NAME: &str = "g";

/// The change that makes the controllers work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// A new group.
    Placed,
    /// So many pods of it are deleted.
    Replaced(usize),
    /// Its decode role gets two more replicas.
    Grown,
    /// A node of its rack is lost, and the rest has no room for it.
    Moved,
}

/// The moment at which they are killed. Each is a fact that stays true once it is.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// A plan that was not there before is written.
    Planned,
    /// So many pods of the story were released.
    Released(usize),
    /// So many of them have nodes.
    Bound(usize),
    /// So many pods of before are gone.
    Gone(usize),
}

use Moment::{Bound, Gone, Planned, Released};

/// Thirty kills.
const KILLS: &[(Story, &[Moment])] = &[
    (Story::Placed, &[Planned]),
    (Story::Replaced(1), &[Planned]),
    (Story::Grown, &[Released(1)]),
    (Story::Moved, &[Gone(3)]),
    (Story::Placed, &[Released(1)]),
    (Story::Placed, &[Released(3)]),
    (Story::Placed, &[Released(6)]),
    (Story::Placed, &[Bound(1)]),
    (Story::Placed, &[Bound(3)]),
    (Story::Placed, &[Bound(6)]),
    (Story::Placed, &[Planned, Released(1)]),
    (Story::Placed, &[Released(1), Bound(3)]),
    (Story::Replaced(1), &[Released(1)]),
    (Story::Replaced(1), &[Bound(1)]),
    (Story::Replaced(3), &[Gone(1)]),
    (Story::Replaced(3), &[Planned]),
    (Story::Replaced(3), &[Released(1)]),
    (Story::Replaced(3), &[Bound(2)]),
    (Story::Grown, &[Planned]),
    (Story::Grown, &[Released(2)]),
    (Story::Grown, &[Bound(1)]),
    (Story::Grown, &[Bound(2)]),
    (Story::Moved, &[Gone(1)]),
    (Story::Moved, &[Gone(4)]),
    (Story::Moved, &[Planned]),
    (Story::Moved, &[Released(1)]),
    (Story::Moved, &[Released(4)]),
    (Story::Moved, &[Bound(2)]),
    (Story::Grown, &[Planned, Released(1)]),
    (Story::Moved, &[Gone(1), Released(1)]),
];

/// Those that the test command plays.
const FEW: usize = 4;

struct Stage {
    plane: ControlPlane,
    client: Client,
    controllers: Controllers,
}

impl Stage {
    /// Begins a story; the pods that there were before, and how many there are at its end.
    async fn begin(&self, story: Story) -> (BTreeSet<String>, i64, usize) {
        let gpus = if story == Story::Moved { 4 } else { 2 };
        let decode = if story == Story::Moved { 2 } else { 4 };
        let mut objects = gang(
            NAME,
            Some("rack"),
            &[("prefill", 2, gpus), ("decode", decode, gpus)],
        );
        objects[0]["spec"]["onLoss"] = json!(if story == Story::Moved {
            "Relocate"
        } else {
            "Wait"
        });
        apply(&self.plane, &objects).await;
        let all = usize::try_from(2 + decode).unwrap();
        if story == Story::Placed {
            return (BTreeSet::new(), 0, all);
        }
        let nodes = until(&self.client, &self.controllers, NAME, "Placed", all).await;
        let before = pods(&self.client, NAME).await.into_keys().collect();
        let plan = group(&self.client, NAME).await.status.unwrap().plan;
        match story {
            Story::Placed => {}
            Story::Replaced(lost) => self.delete_some(lost).await,
            Story::Grown => {
                let scale = ["scale", "deployment", "g-decode", "--replicas=6"];
                self.plane.kubectl(&scale).await.unwrap();
                return (before, plan, all + 2);
            }
            Story::Moved => {
                let lost = nodes.first().unwrap();
                self.plane.kubectl(&["cordon", lost]).await.unwrap();
                let on_lost = format!("--field-selector=spec.nodeName={lost}");
                let label = format!("-l{GROUP}={NAME}");
                let delete = ["delete", "pod", &label, &on_lost, "--force"];
                self.plane.kubectl(&delete).await.unwrap();
            }
        }
        (before, plan, all)
    }

    async fn delete_some(&self, lost: usize) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), "default");
        let selected = ListParams::default().labels(&format!("{GROUP}={NAME}"));
        let names = pods.list(&selected).await.unwrap();
        for pod in names.iter().take(lost) {
            let delete = ["delete", "pod", &pod.name_any(), "--force"];
            self.plane.kubectl(&delete).await.unwrap();
        }
    }

    /// Waits for a moment.
    async fn reach(&self, moment: Moment, before: &BTreeSet<String>, plan: i64) {
        let words = format!("{moment:?}");
        let reached = eventually(&words, DEADLINE, async || {
            let pods = pods(&self.client, NAME).await;
            let new = || pods.iter().filter(|(uid, _)| !before.contains(*uid));
            let is_reached = match moment {
                Planned => {
                    let status = group(&self.client, NAME).await.status;
                    status.is_some_and(|status| status.plan > plan)
                }
                Released(count) => new().filter(|(_, (_, gated))| !gated).count() >= count,
                Bound(count) => new().filter(|(_, (node, _))| node.is_some()).count() >= count,
                Gone(count) => {
                    let there = pods.keys().filter(|uid| before.contains(*uid));
                    before.len() - there.count() >= count
                }
            };
            if is_reached {
                Ok(())
            } else {
                let status = group(&self.client, NAME).await.status;
                let log = self.controllers.process.log_tail();
                Err(format!("{status:?} {}\n{log}", pods.len()))
            }
        });
        reached.await.unwrap();
    }

    async fn play(&mut self, story: Story, moments: &[Moment]) {
        let (before, plan, all) = self.begin(story).await;
        for moment in moments {
            self.reach(*moment, &before, plan).await;
            self.controllers.kill_and_start(&self.plane).await.unwrap();
        }
        let nodes = until(&self.client, &self.controllers, NAME, "Placed", all).await;
        let racks = racks(&self.client, &nodes).await;
        assert_eq!(racks.len(), 1, "{story:?} {moments:?}: {nodes:?}");
        let left = pods(&self.client, NAME).await;
        let kept = left.keys().filter(|uid| before.contains(*uid)).count();
        let expected = match story {
            Story::Placed | Story::Moved => 0,
            Story::Replaced(lost) => before.len() - lost,
            Story::Grown => before.len(),
        };
        assert_eq!(kept, expected, "{story:?} {moments:?}: pods of before");
        self.clear().await;
    }

    async fn clear(&self) {
        let plane = &self.plane;
        plane
            .kubectl(&["delete", "placementgroup", NAME])
            .await
            .unwrap();
        plane
            .kubectl(&["delete", "deployment", "g-prefill", "g-decode"])
            .await
            .unwrap();
        for node in plane
            .kubectl(&["get", "nodes", "-o", "name"])
            .await
            .unwrap()
            .lines()
        {
            plane.kubectl(&["uncordon", node]).await.unwrap();
        }
        plane
            .kubectl(&["delete", "pod", &format!("-l{GROUP}={NAME}"), "--force"])
            .await
            .unwrap();
        let cleared = eventually("all pods to go", DEADLINE, async || {
            let left = pods(&self.client, NAME).await.len();
            if left == 0 {
                Ok(())
            } else {
                Err(left.to_string())
            }
        });
        cleared.await.unwrap();
    }
}

fn played() -> usize {
    match env::var("PD_KILLS").as_deref() {
        Ok("all") => KILLS.len(),
        _ => FEW,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_that_are_killed_at_any_moment_end_what_they_began() {
    let plane = cluster().await;
    let client = plane.client().await.unwrap();
    let controllers = Controllers::start(&plane, &placement()).await.unwrap();
    plane.apply(&topology().to_string()).await.unwrap();
    until_gated(&plane).await;
    let mut stage = Stage {
        plane,
        client,
        controllers,
    };
    for (story, moments) in KILLS.iter().take(played()) {
        eprintln!("{story:?} killed at {moments:?}");
        stage.play(*story, moments).await;
    }
}
