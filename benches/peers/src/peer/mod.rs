//! One file a peer, each behind a feature: what a request costs, and what callers see at the
//! refresh point.

#[cfg(feature = "aliri")]
mod aliri;
#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcp-auth")]
mod gcp_auth;
#[cfg(feature = "gears")]
mod gears;
#[cfg(feature = "google-cloud")]
mod google_cloud;
#[cfg(any(feature = "gcp-auth", feature = "yup"))]
mod key;
#[cfg(feature = "kube")]
mod kube;
#[cfg(feature = "middle")]
mod middle;
#[cfg(feature = "object-store")]
mod object_store;
mod ours;
#[cfg(feature = "yup")]
mod yup;

use crate::{
    cost::{Bench, floor},
    point::Scenario,
};

pub fn costs(bench: &mut Bench<'_>) {
    bench.row("SetRequestHeader, static", floor());
    ours::cost(bench);
    #[cfg(feature = "middle")]
    middle::cost(bench);
    #[cfg(feature = "aliri")]
    aliri::cost(bench);
    #[cfg(feature = "google-cloud")]
    google_cloud::cost(bench);
    #[cfg(feature = "kube")]
    kube::cost(bench);
    #[cfg(feature = "yup")]
    yup::cost(bench);
    #[cfg(feature = "gcp-auth")]
    gcp_auth::cost(bench);
    #[cfg(feature = "azure")]
    azure::cost(bench);
    #[cfg(feature = "aws")]
    aws::cost(bench);
    #[cfg(feature = "object-store")]
    object_store::cost(bench);
    #[cfg(feature = "gears")]
    gears::cost(bench);
}

pub async fn points(quick: bool) {
    for (title, scenario) in [
        ("64 callers, refresh is due, the endpoint takes 200 ms", Scenario::Due),
        (
            "64 callers, refresh is due, the endpoint is down, the token still valid",
            Scenario::Outage,
        ),
    ] {
        println!(
            "{title}\n{:<30} {:>9} {:>9} {:>7} {:>12}",
            "", "requests", "fetches", "errors", "longest ms"
        );
        println!("{}", ours::point(scenario, quick).await);
        #[cfg(feature = "middle")]
        println!("{}", middle::point(scenario, quick).await);
        #[cfg(feature = "aliri")]
        println!("{}", aliri::point(scenario, quick).await);
        #[cfg(feature = "google-cloud")]
        println!("{}", google_cloud::point(scenario, quick).await);
        #[cfg(feature = "yup")]
        println!("{}", yup::point(scenario, quick).await);
        #[cfg(feature = "gcp-auth")]
        println!("{}", gcp_auth::point(scenario, quick).await);
        #[cfg(feature = "azure")]
        println!("{}", azure::point(scenario, quick).await);
        #[cfg(feature = "aws")]
        println!("{}", aws::point(scenario, quick).await);
        #[cfg(feature = "object-store")]
        println!("{}", object_store::point(scenario, quick).await);
        #[cfg(feature = "gears")]
        println!("{}", gears::point(scenario, quick).await);
        println!();
    }
}
