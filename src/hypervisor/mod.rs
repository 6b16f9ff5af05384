//! libvirt: domains, volumes, acceleration.
