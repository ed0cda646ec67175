Bstate_00_h_inJÄÆK?Np?R©
?çot¾