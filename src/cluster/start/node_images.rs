//! Bringing images to nodes that join: those of add-ons, and those that were loaded before.

use crate::cluster::start::addon_images::Loading;
use crate::cluster::start::context::{HEALTH_LIMIT, NodeStart, Start};
use crate::cluster::start::wait::OnDemand;
use crate::error::{Kind, Result};
use crate::image;

/// Loads the image archives of add-ons that this start brings into workers. The first node has them, and so
/// has whatever is a copy of a whole cluster.
pub(super) fn load_archives(start: &mut Start<'_>) -> Result<()> {
    let key = start.template.as_ref().map(|template| &template.key);
    let has = |state: &NodeStart<'_>| {
        let copy_of = state.copy_of.as_ref().map(|template| &template.key);
        copy_of.is_some() && copy_of == key
    };
    let all = start.cluster.nodes()?;
    let lack = all.into_iter().zip(&start.nodes).skip(1);
    let lack = lack.filter(|(_, state)| !has(state)).map(|(node, _)| node);
    Loading::begin(lack.collect(), &start.archives).end(start.env.progress)
}

/// Brings images that were loaded into the first node to the workers that lack them: those that are new, and
/// those whose addition was cut short. A failure is a warning, since the nodes are members already.
pub(super) fn bring(start: &mut Start<'_>) -> Result<()> {
    if start.created || !start.nodes.iter().any(|node| node.compared) {
        return Ok(());
    }
    match bring_lacking(start) {
        Err(e) if e.kind() != Kind::Interrupted => start.env.progress.warn(&format!(
            "new nodes may lack images that were loaded before: {e}; load them again"
        )),
        brought => brought?,
    }
    Ok(())
}

/// Brings images to the workers in which fewer are recorded than in the first node.
fn bring_lacking(start: &mut Start<'_>) -> Result<()> {
    // The first node may have been looked at through the API only.
    let (target, limit) = (
        start.cluster.target_of(start.profile_of(0))?,
        start.limit(HEALTH_LIMIT),
    );
    let mut first = OnDemand::new(start.env.backend, target, limit);
    let of_first = image::node::recorded(match &mut start.nodes[0].session {
        Some(session) => session.as_mut(),
        None => &mut first,
    })?;
    let all = start.cluster.nodes()?;
    let (mut lacking, mut names) = (Vec::new(), Vec::new());
    for (node, state) in all.iter().zip(&mut start.nodes).filter(|(_, s)| s.compared) {
        let has = image::node::recorded(state.session()?)?;
        let before = names.len();
        names.extend(of_first.iter().filter(|name| !has.contains(name)).cloned());
        if names.len() > before {
            lacking.push(node.clone());
        }
    }
    match lacking.is_empty() {
        true => Ok(()),
        false => image::bring(&all[0], &lacking, names, start.env.progress),
    }
}
